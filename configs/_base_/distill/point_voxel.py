"""PVD between two networks with point and voxel branches: outputs and affinities.

The weights 0.1, 0.15, 0.15, 0.25 are recalled from the paper. There output losses are divided by all cells and classes,
here they are means over points and active voxels: take the weights as defaults to tune.
"""

from mmengine.config import read_base

from perception3d.distill.losses.point_voxel import PointAffinityKD, PointOutputKD, VoxelAffinityKD, VoxelOutputKD

with read_base():
    from .supervoxels import *

links = dict(
    point_output=dict(student='point_logits', teacher='point_logits', loss=dict(type=PointOutputKD), weight=0.1),
    voxel_output=dict(student='voxel_logits', teacher='voxel_logits', loss=dict(type=VoxelOutputKD), weight=0.15),
    point_affinity=dict(
        student='point_features',
        teacher='point_features',
        loss=dict(type=PointAffinityKD, supervoxels=supervoxels),
        weight=0.15,
    ),
    voxel_affinity=dict(
        student='voxel_features',
        teacher='voxel_features',
        loss=dict(type=VoxelAffinityKD, supervoxels=supervoxels),
        weight=0.25,
    ),
)
