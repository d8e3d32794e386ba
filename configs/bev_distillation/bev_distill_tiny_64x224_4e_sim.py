"""Structured distillation of the resolution pair: teacher 96 x 352, student 64 x 224, both with the tiny Fast-BEV.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`. Parts: links `fused` and `views` are the
spatial-temporal part (a), `saliency`, `classes` and `boxes` the response part (b), `inherit` is (c). A link is switched
off by `model.links.NAME.weight=0.0`, inheriting by `model.inherit=False`.
"""

import copy

from mmengine.config import read_base

from perception3d.datasets.transforms.paired import PairedViews
from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.fused_feature import FusedFeatureKD
from perception3d.distill.losses.pillar_response import PillarBoxKD, PillarClassKD, PillarSaliencyKD
from perception3d.distill.losses.view_relation import ViewRelationKD

with read_base():
    from .fast_bev_tiny_64x224_4e_sim import *

# Loading, boxes and the augmentation of the lidar frame are shared; the size of the images is not.
steps = train_dataloader.dataset.pipeline
train_dataloader.dataset.pipeline = [
    steps.load,
    steps.boxes,
    steps.bev,
    steps.boxes_in_range,
    dict(
        type=PairedViews,
        student=[steps.images, steps.pack],
        teacher=[dict(type=steps.images.type, final_hw=(96, 352), test_mode=True), steps.pack],
    ),
]

# The terms begin at the size of the student's own loss times `match`, and leave the last word to the ground truth.
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
        loss=dict(type=ViewRelationKD, grid=copy.deepcopy(model.grids[0])),
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
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(model),
    teacher_checkpoint=None,
    inherit=True,
    links=links,
)
