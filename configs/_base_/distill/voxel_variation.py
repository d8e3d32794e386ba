"""Compared with PVD: intra-class feature variation (IFV) of the active voxels."""

from perception3d.distill.losses.intra_class import IntraClassKD

links = dict(
    variation=dict(
        student='voxel_features', teacher='voxel_features', loss=dict(type=IntraClassKD), match=1.0, weight=0.3
    ),
)
