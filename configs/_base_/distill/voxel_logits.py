"""Compared with PVD: class probabilities of the active voxels, softened by a temperature.

Here and in the other compared methods the links begin at 0.65 of the student's own loss together, as PVD's four do
(0.1 + 0.15 + 0.15 + 0.25): the weights of the papers are for images.
"""

from perception3d.distill.losses.logits import LogitKL

# Times the weight: the share of the student's own loss.
link_match = 1.0

links = dict(
    logits=dict(
        student='voxel_logits', teacher='voxel_logits', loss=dict(type=LogitKL, tau=2.0), match=link_match, weight=0.65
    ),
)
