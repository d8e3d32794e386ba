"""SECOND (Yan et al. 2018) for KITTI's three classes, in the sizes of mmdet3d: 5.326 M. Its head is PointPillars'."""

from mmdet3d.models.task_modules import Anchor3DRangeGenerator
from mmdet3d.models.voxel_encoders import HardSimpleVFE
from mmengine.config import read_base

from perception3d.models.lidar_det.sparse_encoder import RowSparseEncoder

with read_base():
    from .point_pillars_secfpn import *

voxel_size = [0.05, 0.05, 0.1]
point_cloud_range = [0, -40, -3, 70.4, 40, 1]

model.data_preprocessor.voxel_layer.update(max_num_points=5, point_cloud_range=point_cloud_range, voxel_size=voxel_size)
model.voxel_encoder = dict(type=HardSimpleVFE)
model.middle_encoder = dict(
    type=RowSparseEncoder,
    in_channels=4,
    sparse_shape=[41, 1600, 1408],
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
model.bbox_head.anchor_generator.update(
    type=Anchor3DRangeGenerator,
    ranges=[
        [0, -40.0, -0.6, 70.4, 40.0, -0.6],
        [0, -40.0, -0.6, 70.4, 40.0, -0.6],
        [0, -40.0, -1.78, 70.4, 40.0, -1.78],
    ],
)
# Pedestrian and Cyclist.
model.train_cfg.assigner[0].update(pos_iou_thr=0.35, neg_iou_thr=0.2, min_pos_iou=0.2)
model.train_cfg.assigner[1].update(pos_iou_thr=0.35, neg_iou_thr=0.2, min_pos_iou=0.2)
