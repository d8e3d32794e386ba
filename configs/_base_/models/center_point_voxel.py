"""CenterPoint (Yin et al. 2021, arXiv 2006.11275) on voxels of 0.1 m for nuScenes, in the sizes of mmdet3d."""

from mmdet3d.models.voxel_encoders import HardSimpleVFE
from mmengine.config import read_base

from perception3d.models.lidar_det.sparse_encoder import RowSparseEncoder

with read_base():
    from .center_point_pillar import *

voxel_size = [0.1, 0.1, 0.2]
model.data_preprocessor.voxel_layer.update(max_num_points=10, voxel_size=voxel_size, max_voxels=(90000, 120000))
model.pts_voxel_encoder = dict(type=HardSimpleVFE, num_features=5)
model.pts_middle_encoder = dict(
    type=RowSparseEncoder,
    in_channels=5,
    sparse_shape=[41, 1024, 1024],
    output_channels=128,
    order=('conv', 'norm', 'act'),
    encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
    encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
    block_type='basicblock',
)
model.pts_backbone.update(in_channels=256, out_channels=[128, 256], layer_nums=[5, 5], layer_strides=[1, 2])
model.pts_neck.update(in_channels=[128, 256], out_channels=[256, 256], upsample_strides=[1, 2])
model.pts_bbox_head.in_channels = 2 * 256
model.pts_bbox_head.bbox_coder.update(out_size_factor=8, voxel_size=voxel_size[:2])
model.train_cfg.pts.update(grid_size=[1024, 1024, 40], voxel_size=voxel_size, out_size_factor=8)
model.test_cfg.pts.update(out_size_factor=8, voxel_size=voxel_size[:2])
