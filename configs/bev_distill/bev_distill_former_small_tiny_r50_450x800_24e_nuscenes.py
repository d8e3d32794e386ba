"""BEVFormer-small (ResNet-101 with deformable convolutions, 720 x 1280, 150 x 150 pillars) teaches BEVFormer-tiny
(ResNet-50, 450 x 800, 50 x 50 pillars), both on three frames.

The student takes over its teacher's encoder and head, and of the bird's-eye queries and positions those of its coarser
grid over the same metres. They stay as they are for a quarter of the training: the inputs of both transformers are then
the same. Links `fused`, `cameras` and `frames` are the spatial-temporal part (a). The decoder's head has no map of
class logits, so there is no response part (b) and no weighting by what the teacher sees. `inherit` with `freeze` is
(c); without it set `model.inherit=False model.freeze=[] model.freeze_until=None`.
"""

import copy

from mmengine.config import read_base

from perception3d.datasets.transforms.paired import PairedViews
from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.former_links import *
    from ..bev_former.bev_former_small_r101dcn_720x1280_24e_nuscenes import model as teacher
    from ..bev_former.bev_former_tiny_r50_450x800_24e_nuscenes import *

steps = train_dataloader.dataset.pipeline
train_dataloader.dataset.pipeline = [
    steps.load,
    steps.boxes,
    steps.boxes_in_range,
    dict(
        type=PairedViews,
        student=[steps.images, steps.pack],
        teacher=[dict(type=steps.images.type, final_hw=(720, 1280), test_mode=True), steps.pack],
    ),
]

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=dict(
        resize={
            'encoder.bev_embedding.weight': ((150, 150), (50, 50)),
            'encoder.column_embedding.weight': ((150, 1), (50, 1)),
            'encoder.row_embedding.weight': ((150, 1), (50, 1)),
        },
        # The backbones differ, and the lateral convolution reads theirs.
        skip=['backbone.*', 'neck.lateral_convs.*'],
    ),
    freeze=['encoder.*_embedding.weight', 'encoder.level_embeds', 'encoder.camera_embeds'],
    freeze_until=0.25,
    links=links,
)
