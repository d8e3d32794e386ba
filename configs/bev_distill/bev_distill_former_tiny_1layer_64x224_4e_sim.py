"""Structured distillation of the transformer pair: two encoder layers at 96 x 352 teach one at 64 x 224.

The student inherits the bird's-eye queries and embeddings of its teacher and keeps them: the inputs of both
transformers are then the same, so that what their attention blocks add to a query can be compared. Links `fused` and
`cameras` are the spatial-temporal part (a), `saliency`, `classes` and `boxes` the response part (b), `inherit` with
`freeze` is (c); without it set `model.inherit=False model.freeze=[]`.
"""

import copy

from mmengine.config import read_base

from perception3d.datasets.transforms.paired import PairedViews
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.attention_update import AttentionUpdateKD

with read_base():
    from ..bev_former.bev_former_tiny_1layer_64x224_4e_sim import *
    from ..bev_former.bev_former_tiny_96x352_8e_sim import model as teacher
    from .bev_distill_tiny_64x224_4e_sim import links, timing

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

links.fused.update(student='encoder', teacher='encoder')
del links['views']
# The last block of each: what the cameras add.
links['cameras'] = dict(
    student='encoder.layers.0.spatial_attention',
    teacher='encoder.layers.1.spatial_attention',
    loss=dict(
        type=AttentionUpdateKD,
        student_input='encoder.layers.0.spatial_attention:input[0]',
        teacher_input='encoder.layers.1.spatial_attention:input[0]',
        saliency='bbox_head[0]',
    ),
    weight=0.1,
    **timing,
)
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=dict(depths=['encoder.layers']),
    freeze=['encoder.*_embedding.weight', 'encoder.level_embeds', 'encoder.camera_embeds'],
    links=links,
)
