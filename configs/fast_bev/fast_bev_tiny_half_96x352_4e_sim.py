"""Student of the width pair: the tiny Fast-BEV with half the channels everywhere, at equal depth."""

from mmengine.config import read_base

max_epochs = 4

with read_base():
    from .fast_bev_tiny_96x352_8e_sim import *

model.backbone.update(base_channels=8, stem_channels=4)
model.neck.update(in_channels=[8, 16, 32], out_channels=8)
model.neck_fuse.update(in_channels=8, out_channels=8)
model.neck_3d.update(fuse_channels=8 * 4 * num_frames, in_channels=16, out_channels=16)
model.bbox_head.update(in_channels=16, hidden_channels=16)
