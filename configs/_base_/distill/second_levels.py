"""PointDistiller on both levels of the 2D backbone of SECOND.

A leaf sets what differs by the width of its student.
"""

from perception3d.distill.losses.point_distiller import PointDistiller

# Of both levels.
student_channels = (64, 128)

links = dict(
    level0=dict(
        student='backbone[0]',
        teacher='backbone[0]',
        loss=dict(
            type=PointDistiller,
            student_channels=student_channels[0],
            teacher_channels=128,
            channels=32,
            num_nodes=256,
            num_neighbors=128,
            importance='feature',
        ),
    ),
    level1=dict(
        student='backbone[1]',
        teacher='backbone[1]',
        loss=dict(
            type=PointDistiller,
            student_channels=student_channels[1],
            teacher_channels=256,
            channels=32,
            num_nodes=256,
            num_neighbors=128,
            importance='feature',
        ),
    ),
)
