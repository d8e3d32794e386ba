"""A small SECOND for the built-in world in KITTI's format, on a CPU: 0 to 40 m ahead, half the published widths.

Data, schedule and how to make the world are those of `point_pillars_tiny_10e_kitti_sim.py`.
"""

import copy

from mmengine.config import read_base

point_cloud_range = [0, -20, -3, 40, 20, 1]
voxel_size = [0.1, 0.1, 0.1]

with read_base():
    from .._base_.models.second_secfpn import model as second
    from ..point_pillars.point_pillars_tiny_10e_kitti_sim import *

model = copy.deepcopy(second)
del second
model.data_preprocessor.voxel_layer.max_voxels = (20000, 20000)
# One stage less than published: voxels of 0.1 m then give maps of 0.4 m, as voxels of 0.05 m and four stages do.
model.middle_encoder.update(
    base_channels=8,
    encoder_channels=((8,), (16, 16, 16), (32, 32, 32)),
    encoder_paddings=((1,), (1, 1, 1), (1, 1, 1)),
    output_channels=32,
)
model.backbone.update(in_channels=160, layer_nums=[2, 2], out_channels=[32, 64])
model.neck.update(in_channels=[32, 64], out_channels=[64, 64])
model.bbox_head.update(in_channels=128, feat_channels=128)
