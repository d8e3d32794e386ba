"""Compared with PVD: structured distillation (SKD) of voxels and supervoxels, without its holistic part, a GAN.

Weight: 0.65 of the student's own loss in sum, as PVD's four links together.
"""

from perception3d.distill.losses.logits import LogitKL
from perception3d.distill.losses.supervoxel_pairs import SupervoxelPairKD

# Times the weight: the share of the student's own loss.
link_match = 1.0

links = dict(
    logits=dict(
        student='voxel_logits', teacher='voxel_logits', loss=dict(type=LogitKL), match=link_match, weight=0.325
    ),
    pairs=dict(
        student='voxel_features',
        teacher='voxel_features',
        loss=dict(type=SupervoxelPairKD),
        match=link_match,
        weight=0.325,
    ),
)
