"""Compared with PVD: knowledge adaptation (KA) of the features of the active voxels.

Weight: 0.65 of the student's own loss, as PVD's four links together.
"""

from mmengine.config import read_base

from perception3d.distill.losses.knowledge_adaptation import KnowledgeAdaptationKD

# Channels of voxel_features: four times the width of a Cylinder3D.
student_channels = 64
teacher_channels = 128
autoencoder_steps = 5000

# Times the weight: the share of the student's own loss.
link_match = 1.0

with read_base():
    from .supervoxels import *

links = dict(
    code=dict(
        student='voxel_features',
        teacher='voxel_features',
        loss=dict(
            type=KnowledgeAdaptationKD,
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            channels=teacher_channels // 4,
            supervoxels=supervoxels,
            autoencoder_steps=autoencoder_steps,
        ),
        match=link_match,
        weight=0.65,
    ),
)
