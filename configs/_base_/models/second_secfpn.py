"""SECOND (Yan et al. 2018) for KITTI's three classes, in the sizes of mmdet3d: 5.326 M. Its head is PointPillars'."""

from mmdet3d.models.task_modules import Anchor3DRangeGenerator
from mmdet3d.models.voxel_encoders import HardSimpleVFE
from mmengine.config import read_base

from perception3d.models.lidar_det.sparse_encoder import RowSparseEncoder

voxel_size = [0.05, 0.05, 0.1]
point_cloud_range = [0, -40, -3, 70.4, 40, 1]
anchor_overlaps = dict(Pedestrian=(0.35, 0.2), Cyclist=(0.35, 0.2), Car=(0.6, 0.45))

with read_base():
    from .point_pillars_secfpn import *

model.data_preprocessor.voxel_layer.max_num_points = 5
model.voxel_encoder = dict(type=HardSimpleVFE)
model.middle_encoder = dict(
    type=RowSparseEncoder,
    in_channels=num_features,
    # One layer of voxels more than the range has.
    sparse_shape=[round((point_cloud_range[5] - point_cloud_range[2]) / voxel_size[2]) + 1, *map_shape],
    order=('conv', 'norm', 'act'),
    base_channels=16,
    encoder_channels=((16,), (32, 32, 32), (64, 64, 64), (64, 64, 64)),
    output_channels=128,
)
model.backbone.update(in_channels=256, layer_nums=[5, 5], layer_strides=[1, 2], out_channels=[128, 256])
model.neck.update(in_channels=[128, 256], upsample_strides=[1, 2], out_channels=[256, 256])
# In contrast to PointPillars', the classes share their targets.
model.bbox_head.update(in_channels=512, feat_channels=512)
del model.bbox_head['assign_per_class']
model.bbox_head.anchor_generator.type = Anchor3DRangeGenerator
