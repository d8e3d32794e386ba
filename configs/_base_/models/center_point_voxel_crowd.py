"""CenterPoint for people on voxels of 0.12 x 0.16 x 0.2 m: the network of `center_point_voxel`, one class.

The sparse encoder halves its grid once for a `map_stride` of 2 or 1, twice for 4 and three times for 8, so that no
map is finer than what it is made of; only the map of stride 1 is upsampled.
"""

from mmdet3d.models.voxel_encoders import HardSimpleVFE
from mmengine.config import read_base

from perception3d.models.lidar_det.sparse_encoder import RowSparseEncoder

voxel_size = [0.12, 0.16, 0.2]
map_stride = 2

with read_base():
    from .center_point_pillar_crowd import *

stages = {8: 4, 4: 3, 2: 2, 1: 2}[map_stride]
# Layers of voxels that are left of 31 before the map is made.
layers = {4: 1, 3: 3, 2: 7}[stages]
# Pillars along a side of a cell of what the encoder leaves.
encoder_stride = 2 ** (stages - 1)

model.data_preprocessor.voxel_layer.update(max_num_points=10, max_voxels=(60000, 80000))
model.voxel_encoder = dict(type=HardSimpleVFE, num_features=num_features)
model.middle_encoder = dict(
    type=RowSparseEncoder,
    in_channels=num_features,
    sparse_shape=[31, *map_shape],
    output_channels=64,
    order=('conv', 'norm', 'act'),
    encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128))[: stages - 1]
    + ((16 * encoder_stride,) * 2,),
    encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0))[: stages - 1] + ((0, 0),),
    block_type='basicblock',
)
model.backbone.update(in_channels=64 * layers, out_channels=[128, 256], layer_nums=[5, 5], layer_strides=[1, 2])
model.neck.update(
    in_channels=[128, 256],
    out_channels=[128, 128],
    upsample_strides=[encoder_stride // map_stride, 2 * encoder_stride // map_stride],
)
model.bbox_head.in_channels = 2 * 128
