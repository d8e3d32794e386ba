"""PointRCNN with every width divided by 2.8 and cut to an integer: the 8x student of PointDistiller."""

from mmengine.config import read_base

with read_base():
    from .point_rcnn_160e_kitti import *

model.backbone.sa_channels = (
    ((5, 5, 11), (11, 11, 22)),
    ((22, 22, 45), (22, 34, 45)),
    ((45, 70, 91), (45, 70, 91)),
    ((91, 91, 182), (91, 137, 182)),
)
model.neck.fp_channels = ((546, 182, 182), (272, 182, 182), (215, 91, 91), (92, 45, 45))
model.rpn_head.pred_layer_cfg.update(in_channels=45, cls_linear_channels=(91, 91), reg_linear_channels=(91, 91))
model.roi_head.bbox_head.update(mlp_channels=[45, 45], sa_channels=((45, 45, 45), (45, 45, 91), (91, 91, 182)))
model.roi_head.bbox_head.pred_layer_cfg.update(in_channels=182, cls_conv_channels=(91, 91), reg_conv_channels=(91, 91))
