"""PointDistiller on the finest level of the feature pyramid of PointPillars.

A leaf sets what differs by the width of its student.
"""

from perception3d.distill.losses.point_distiller import PointDistiller

student_channels = 128

links = dict(
    local=dict(
        student='pts_neck[0]',
        teacher='pts_neck[0]',
        loss=dict(
            type=PointDistiller,
            student_channels=student_channels,
            teacher_channels=256,
            channels=64,
            num_nodes=256,
            num_neighbors=128,
            importance='feature',
        ),
    ),
)
