"""PointDistiller on the features of the pillars of PointPillars.

A leaf sets what differs by the width of its student.
"""

from perception3d.distill.losses.point_distiller import PointDistiller

student_channels = 32
# Width of both branches of the loss, and how many pillars of a batch it takes, those with most points first.
distill_channels = 32
distill_nodes = 6000

links = dict(
    local=dict(
        student='voxel_encoder',
        teacher='voxel_encoder',
        loss=dict(
            type=PointDistiller,
            student_channels=student_channels,
            teacher_channels=64,
            channels=distill_channels,
            num_nodes=distill_nodes,
            num_neighbors=128,
            importance='points',
        ),
    ),
)
