"""Links of structured distillation between two tiny Fast-BEV detectors with the centre head.

A leaf sets `links.views.loss.grid` to the grid of its student.
"""

from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.fused_feature import FusedFeatureKD
from perception3d.distill.losses.pillar_response import PillarBoxKD, PillarClassKD, PillarSaliencyKD
from perception3d.distill.losses.view_relation import ViewRelationKD

# The terms begin at the size of the student's own loss times `match`; the last fifth belongs to the ground truth.
timing = dict(match=1.0, ramp=0.1, decay_start=0.8, decay_to=0.1)
links = dict(
    fused=dict(
        student='neck_3d',
        teacher='neck_3d',
        adapter=dict(type=ConvAdapter, in_channels=32, out_channels=32),
        loss=dict(type=FusedFeatureKD, saliency='bbox_head[0]'),
        weight=0.4,
        **timing,
    ),
    views=dict(
        student='view_transforms.0:input',
        teacher='view_transforms.0:input',
        loss=dict(type=ViewRelationKD, grid=None),
        weight=0.1,
        **timing,
    ),
    saliency=dict(
        student='bbox_head[0]',
        teacher='bbox_head[0]',
        loss=dict(type=PillarSaliencyKD, tau=2.0),
        weight=0.1,
        **timing,
    ),
    classes=dict(
        student='bbox_head[0]',
        teacher='bbox_head[0]',
        loss=dict(type=PillarClassKD),
        weight=0.2,
        **timing,
    ),
    boxes=dict(
        student='bbox_head[1]',
        teacher='bbox_head[1]',
        loss=dict(
            type=PillarBoxKD,
            teacher_logits='bbox_head[0]',
            code_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
        ),
        weight=0.2,
        **timing,
    ),
)
