"""PVD between points alone, for a student in other voxels than its teacher or on range images.

For the weights, and voxels too, see `point_voxel`. `link_match = 1.0` makes a weight a share of the student's own loss.
"""

from mmengine.config import read_base

from perception3d.distill.losses.point_voxel import PointAffinityKD, PointOutputKD

with read_base():
    from .supervoxels import *

link_match = None

links = dict(
    point_output=dict(
        student='point_logits', teacher='point_logits', loss=dict(type=PointOutputKD), weight=0.1, match=link_match
    ),
    point_affinity=dict(
        student='point_features',
        teacher='point_features',
        loss=dict(type=PointAffinityKD, supervoxels=supervoxels),
        weight=0.15,
        match=link_match,
    ),
)
