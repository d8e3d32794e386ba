"""The small Fast-BEV with the paper's FreeAnchor head on cells of 1.6 m: to compare heads; it needs longer training."""

from mmengine.config import read_base

from perception3d.models.fast_bev.free_anchor_head import FreeAnchorBEVHead

with read_base():
    from .fast_bev_tiny_96x352_9e_sim import *

model.neck_3d.update(out_channels=64, num_layers=1, stride=2)
# One frame does not tell a speed, so the last two codes have no weight.
model.bbox_head = dict(
    type=FreeAnchorBEVHead,
    num_classes=10,
    in_channels=64,
    anchors=dict(range_m=range_m),
    code_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
)
