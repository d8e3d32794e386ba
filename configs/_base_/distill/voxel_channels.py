"""Compared with PVD: channel-wise distillation (CWD) of the class logits of the active voxels.

Weight: 0.65 of the student's own loss, as PVD's four links together.
"""

from perception3d.distill.losses.row_channel_wise import RowChannelWiseKD

# Times the weight: the share of the student's own loss.
link_match = 1.0

links = dict(
    channels=dict(
        student='voxel_logits',
        teacher='voxel_logits',
        loss=dict(type=RowChannelWiseKD, tau=4.0),
        match=link_match,
        weight=0.65,
    ),
)
