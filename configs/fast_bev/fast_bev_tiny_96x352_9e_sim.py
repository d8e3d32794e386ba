"""A small Fast-BEV for the built-in world on a CPU: 0.23 M parameters, images of 96 x 352, minutes of training."""

from mmengine.config import read_base

from perception3d.models.fast_bev.center_head import CenterBEVHead

with read_base():
    from .._base_.datasets.sim_camera import *
    from .._base_.models.fast_bev_r18 import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_tiny import *

# Nothing is pretrained here, so the whole backbone learns, statistics included.
model.backbone.update(
    base_channels=16,
    stem_channels=8,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(0, 1, 2),
    frozen_stages=-1,
    norm_eval=False,
)
model.neck.update(in_channels=[16, 32, 64], out_channels=16, num_outs=3)
model.neck_fuse.update(num_levels=3, in_channels=16, out_channels=16)
# The tiny world ends at 24 m. Its cars hang their sensors at different heights, so the grid follows the ground: its
# lowest samples lie on the road, and the pixel of an object's foot falls into the voxel at its place, which tells its
# distance.
model.ground_z_m = -1.84
range_m = (-25.6, -25.6, 25.6, 25.6)
model.grids = [dict(range_m=(-25.6, -25.6, -1.84, 25.6, 25.6, 2.16), shape=(64, 64, 4))]
model.neck_3d.update(fuse_channels=16 * 4 * num_frames, in_channels=32, out_channels=32, num_layers=0, stride=1)
# Not the paper's head: this one learns in a few minutes what FreeAnchor does not. One frame does not tell a speed, so
# the last two codes have no weight.
model.bbox_head = dict(
    type=CenterBEVHead,
    in_channels=32,
    hidden_channels=32,
    range_m=range_m,
    code_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
)
