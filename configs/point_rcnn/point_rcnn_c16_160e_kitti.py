"""PointRCNN with every width divided by 4 and cut to an integer: the 16x student of PointDistiller."""

from mmengine.config import read_base

with read_base():
    from .point_rcnn_160e_kitti import *

model.backbone.sa_channels = (
    ((4, 4, 8), (8, 8, 16)),
    ((16, 16, 32), (16, 24, 32)),
    ((32, 49, 64), (32, 49, 64)),
    ((64, 64, 128), (64, 96, 128)),
)
model.neck.fp_channels = ((384, 128, 128), (192, 128, 128), (152, 64, 64), (65, 32, 32))
model.rpn_head.pred_layer_cfg.update(in_channels=32, cls_linear_channels=(64, 64), reg_linear_channels=(64, 64))
model.roi_head.bbox_head.update(mlp_channels=[32, 32], sa_channels=((32, 32, 32), (32, 32, 64), (64, 64, 128)))
model.roi_head.bbox_head.pred_layer_cfg.update(in_channels=128, cls_conv_channels=(64, 64), reg_conv_channels=(64, 64))
