"""Compared with PVD: class probabilities of the active voxels, softened by a temperature.

Here and in the other compared methods a link begins at 0.3 of the student's own loss: papers' weights are for images.
"""

from perception3d.distill.losses.logits import LogitKL

links = dict(
    logits=dict(
        student='voxel_logits', teacher='voxel_logits', loss=dict(type=LogitKL, tau=2.0), match=1.0, weight=0.3
    ),
)
