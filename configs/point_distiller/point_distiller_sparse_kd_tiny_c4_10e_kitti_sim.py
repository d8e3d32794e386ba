"""Compared with PointDistiller in the tiny pair: SparseKD (arXiv 2205.15156), scores and boxes where it is sure.

Scores by MSE with the teacher's best score as soft mask, boxes by L1 at those places, and the teacher's weights where
they fit. Label distillation: the teacher's boxes above 0.6 join the ground truth before targets are assigned.
"""

from mmengine.config import read_base

from perception3d.distill.losses.heatmap import HeatmapKD
from perception3d.distill.losses.pillar_response import PillarBoxKD
from perception3d.distill.teacher_boxes import TeacherBoxes

with read_base():
    from .._base_.distill.lidar_widths import *
    from .point_distiller_tiny_c4_10e_kitti_sim import *

model.inherit = dict(widths=tiny_pillars_widths)
model.labels = dict(type=TeacherBoxes, score_thr=0.6)
model.links = dict(
    scores=dict(
        student='bbox_head.conv_cls',
        teacher='bbox_head.conv_cls',
        loss=dict(type=HeatmapKD),
        weight=0.3,
        **timing,
    ),
    boxes=dict(
        student='bbox_head.conv_reg',
        teacher='bbox_head.conv_reg',
        loss=dict(
            type=PillarBoxKD,
            teacher_logits='bbox_head.conv_cls',
            slots=6,
            code_weights=(1.0,) * 7,
            score_thr=0.0,
            beta=1e-3,
            yaw_code=6,
        ),
        weight=0.2,
        **timing,
    ),
)
