"""Links of structured distillation between Fast-BEV detectors with the paper's head and four frames.

`fused`, `frames`, `views` and `increment` are the spatial-temporal part (a), `saliency`, `classes` and `boxes` the
response (b). Each begins at `match` times the student's own loss, so `weight` is its share of it. The last fifth of the
training belongs to the ground truth. A link is switched off by `model.links.NAME.weight=0.0`.
"""

from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.losses.fused_feature import FusedFeatureKD
from perception3d.distill.losses.fusion_increment import FusionIncrementKD
from perception3d.distill.losses.pillar_response import PillarBoxKD, PillarClassKD, PillarSaliencyKD
from perception3d.distill.losses.temporal_relation import TemporalRelationKD
from perception3d.distill.losses.view_relation import ViewRelationKD

timing = dict(match=1.0, ramp=0.05, decay_start=0.8, decay_to=0.1)
links = dict(
    fused=dict(
        student='neck_3d',
        teacher='neck_3d',
        adapter=dict(type=ConvAdapter, in_channels=192, out_channels=192),
        loss=dict(type=FusedFeatureKD, saliency='bbox_head[0]', transposed=True),
        weight=0.3,
        **timing,
    ),
    frames=dict(
        student='view_transforms.0',
        teacher='view_transforms.0',
        loss=dict(
            type=TemporalRelationKD,
            student_frames=4,
            teacher_frames=4,
            height=4,
            saliency='bbox_head[0]',
            transposed=True,
        ),
        weight=0.1,
        **timing,
    ),
    views=dict(
        student='view_transforms.0:input',
        teacher='view_transforms.0:input',
        loss=dict(type=ViewRelationKD, grid=dict(range_m=(-50, -50, -4, 50, 50, 2), shape=(200, 200, 4))),
        weight=0.1,
        **timing,
    ),
    increment=dict(
        student='neck_3d',
        teacher='neck_3d',
        loss=dict(
            type=FusionIncrementKD,
            encoder='neck_3d',
            student_frames=4,
            teacher_frames=4,
            height=4,
            adapter=dict(type=ConvAdapter, in_channels=192, out_channels=192),
            saliency='bbox_head[0]',
            transposed=True,
        ),
        # A second pass of both encoders: in one step of five, for five.
        weight=0.15,
        every=5,
        **timing,
    ),
    saliency=dict(
        student='bbox_head[0]',
        teacher='bbox_head[0]',
        loss=dict(type=PillarSaliencyKD, tau=2.0),
        weight=0.1,
        **timing,
    ),
    classes=dict(student='bbox_head[0]', teacher='bbox_head[0]', loss=dict(type=PillarClassKD), weight=0.2, **timing),
    boxes=dict(
        student='bbox_head[1]',
        teacher='bbox_head[1]',
        loss=dict(
            type=PillarBoxKD,
            teacher_logits='bbox_head[0]',
            slots=8,
            code_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2),
            yaw_code=6,
            student_directions='bbox_head[2]',
            teacher_directions='bbox_head[2]',
            min_iou=0.3,
        ),
        weight=0.2,
        **timing,
    ),
)
