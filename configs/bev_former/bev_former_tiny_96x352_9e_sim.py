"""A small BEVFormer for the built-in world on a CPU: images of 96 x 352, 32 x 32 pillars, minutes of training."""

from mmengine.config import read_base

from perception3d.models.fast_bev.center_head import CenterBEVHead

with read_base():
    from .._base_.datasets.sim_camera import *
    from .._base_.models.bev_transformer_r50 import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_tiny import *

# Nothing is pretrained here, so the whole backbone learns, statistics included.
model.backbone.update(
    depth=18,
    base_channels=16,
    stem_channels=8,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(0, 1, 2),
    frozen_stages=-1,
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
)
embed_dims = 32
model.neck.update(in_channels=[16, 32, 64], out_channels=embed_dims, num_outs=3)
# Of the points of a pillar the lowest stands on the road: the pixel of an object's foot tells its distance.
model.ground_z_m = -1.84
range_m = (-25.6, -25.6, 25.6, 25.6)
model.encoder.update(
    grid=dict(range_m=range_m, shape=(32, 32), heights_m=(-1.84, -0.51, 0.83, 2.16)),
    embed_dims=embed_dims,
    num_layers=2,
    num_heads=4,
    feedforward_channels=2 * embed_dims,
    num_levels=3,
    num_points=4,
    temporal_points=2,
    dropout=0.0,
)
# Not the paper's head: this one learns in a few minutes what a matching of queries does not. One frame does not tell a
# speed, so the last two codes have no weight.
model.bbox_head = dict(
    type=CenterBEVHead,
    in_channels=embed_dims,
    hidden_channels=32,
    range_m=range_m,
    code_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
)
