"""Compared with PVD: intra-class feature variation (IFV) of the active voxels.

Weight: 0.65 of the student's own loss, as PVD's four links together.
"""

from perception3d.distill.losses.intra_class import IntraClassKD

# Times the weight: the share of the student's own loss.
link_match = 1.0

links = dict(
    variation=dict(
        student='voxel_features', teacher='voxel_features', loss=dict(type=IntraClassKD), match=link_match, weight=0.65
    ),
)
