"""PointDistiller on the features of the points of PointRCNN.

A leaf sets what differs by the width of its student.
"""

from perception3d.distill.losses.point_distiller import PointDistiller

student_channels = 45
# Width of both branches of the loss.
distill_channels = 45

links = dict(
    local=dict(
        student='neck[fp_features]',
        teacher='neck[fp_features]',
        loss=dict(
            type=PointDistiller,
            student_channels=student_channels,
            teacher_channels=128,
            channels=distill_channels,
            num_nodes=6000,
            num_neighbors=128,
            importance='feature',
            pool='max',
        ),
    ),
)
