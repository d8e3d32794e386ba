"""Structured distillation of the resolution pair: teacher 96 x 352, student 64 x 224, both with the tiny Fast-BEV.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`. Parts: links `fused` and `views` are the
spatial-temporal part (a), `saliency`, `classes` and `boxes` the response part (b), `inherit` is (c). A link is switched
off by `model.links.NAME.weight=0.0`, inheriting by `model.inherit=False`.
"""

import copy

from mmengine.config import read_base

from perception3d.datasets.transforms.paired import PairedViews
from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.tiny_links import *
    from ..fast_bev.fast_bev_tiny_64x224_4e_sim import *

# Loading, boxes and the augmentation of the LiDAR frame are shared; the size of the images is not.
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

links.views.loss.grid = copy.deepcopy(model.grids[0])
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(model),
    teacher_checkpoint=None,
    inherit=True,
    links=links,
)
