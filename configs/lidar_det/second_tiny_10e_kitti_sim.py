"""A small SECOND for the built-in world in KITTI's format, on a CPU: 0 to 40 m ahead, half the published widths.

Data, schedule and how to make the world are those of `point_pillars_tiny_10e_kitti_sim.py`.
"""

import copy

from mmengine.config import read_base

with read_base():
    from .._base_.models.second_secfpn import model as second
    from .point_pillars_tiny_10e_kitti_sim import *

voxel_size = [0.1, 0.1, 0.1]

model = copy.deepcopy(second)
del second
model.data_preprocessor.voxel_layer.update(
    point_cloud_range=point_cloud_range, voxel_size=voxel_size, max_voxels=(20000, 20000)
)
# One stage less than published: voxels of 0.1 m then give maps of 0.4 m, as voxels of 0.05 m and four stages do.
model.middle_encoder.update(
    sparse_shape=[41, 400, 400],
    base_channels=8,
    encoder_channels=((8,), (16, 16, 16), (32, 32, 32)),
    encoder_paddings=((1,), (1, 1, 1), (1, 1, 1)),
    output_channels=32,
)
model.backbone.update(in_channels=160, layer_nums=[2, 2], out_channels=[32, 64])
model.neck.update(in_channels=[32, 64], out_channels=[64, 64])
model.bbox_head.update(in_channels=128, feat_channels=128)
model.bbox_head.anchor_generator.ranges = [
    [0, -20, -0.6, 40, 20, -0.6],
    [0, -20, -0.6, 40, 20, -0.6],
    [0, -20, -1.78, 40, 20, -1.78],
]
