"""PVD between two networks with point and voxel branches: outputs and affinities.

The weights 0.1 and 0.15 (outputs of points and voxels), 0.15 and 0.25 (affinities) are recalled from the paper. There
output losses are divided by all cells and classes, here they are means over points and active voxels: take the weights
as defaults to tune.
"""

from mmengine.config import read_base

from perception3d.distill.losses.point_voxel import VoxelAffinityKD, VoxelOutputKD

with read_base():
    from .points_alone import *

links.update(
    voxel_output=dict(
        student='voxel_logits', teacher='voxel_logits', loss=dict(type=VoxelOutputKD), weight=0.15, match=link_match
    ),
    voxel_affinity=dict(
        student='voxel_features',
        teacher='voxel_features',
        loss=dict(type=VoxelAffinityKD, supervoxels=supervoxels),
        weight=0.25,
        match=link_match,
    ),
)
