"""Compared with PVD: features of the active voxels, each channel weighted by the gradient of the student's loss.

Weight: 0.65 of the student's own loss, as PVD's four links together.
"""

from perception3d.distill.losses.gradient_weighted import GradientWeightedKD

# Channels of voxel_features: four times the width of a Cylinder3D.
student_channels = 64
teacher_channels = 128
# Times the weight: the share of the student's own loss.
link_match = 1.0

links = dict(
    gradients=dict(
        student='voxel_features',
        teacher='voxel_features',
        loss=dict(type=GradientWeightedKD, student_channels=student_channels, teacher_channels=teacher_channels),
        match=link_match,
        weight=0.65,
    ),
)
