"""PointDistiller on the map of the neck around what the teacher takes for objects, and the teacher's weights inherited.

The paper's importance on maps is the largest channel; here it is the teacher's best class probability in the cell.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.distill.lidar_widths import *
    from .point_distiller_tiny_c4_10e_kitti_sim import *

model.inherit = dict(widths=tiny_pillars_widths)
model.links = dict(
    objects=dict(
        student='neck[0]',
        teacher='neck[0]',
        loss=dict(
            type=PointDistiller,
            student_channels=96,
            teacher_channels=192,
            channels=32,
            num_nodes=256,
            num_neighbors=32,
            importance='scores',
            scores='bbox_head.conv_cls',
        ),
        weight=0.5,
        **timing,
    ),
)
