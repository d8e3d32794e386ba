"""Mimicking of features of other tasks (FM-Net): two frozen networks teach the stages of the student.

Each link has a transform layer, a 1 x 1 convolution to the channels of the teacher, and the squared difference to its
standardised features. The paper mimics at low, middle and high layers; which stages are linked here is ours.
"""

from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.fitnets import FeatureMSE

# Channels of stage 1 of the student and of the teachers, and of their necks.
base_channels, teacher_channels, neck_channels = 64, 64, 64
link_weight, link_match = 0.1, 1.0

links = {
    f'{task}_{name}': dict(
        student=student,
        teacher=f'{task}:{tap}',
        adapter=dict(type=ConvAdapter, in_channels=in_channels, out_channels=out_channels),
        loss=dict(type=FeatureMSE, normalise=True, resample='bilinear'),
        weight=link_weight,
        match=link_match,
    )
    for task in ('segmentation', 'depth')
    for name, student, tap, in_channels, out_channels in (
        ('low', 'stage2', 'stage2', 2 * base_channels, 2 * teacher_channels),
        ('middle', 'stage3', 'neck', 4 * base_channels, neck_channels),
        ('high', 'stage4', 'stage4', 8 * base_channels, 8 * teacher_channels),
    )
}
