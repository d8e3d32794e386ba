"""Fast-BEV M4 (ResNet-50, 320 x 880, cells of 0.4 m) teaches M2 (ResNet-34, 256 x 704, cells of 0.5 m).

The heads stand on other grids, so box codes cannot be compared cell by cell: class responses are resized, boxes are
left out. The two-dimensional necks are inherited whole, the BEV encoder by its most important channels.
"""

import copy

from mmengine.config import read_base

from perception3d.datasets.transforms.paired import PairedViews
from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.bev_links import *
    from .._base_.distill.fast_bev_widths import bev_encoder_widths
    from ..fast_bev.fast_bev_m2_r34_256x704_cbgs20e_nuscenes import *
    from ..fast_bev.fast_bev_m4_r50_320x880_cbgs20e_nuscenes import model as teacher

steps = train_dataloader.dataset.dataset.pipeline
train_dataloader.dataset.dataset.pipeline = [
    steps.load,
    steps.boxes,
    steps.bev,
    steps.boxes_in_range,
    dict(
        type=PairedViews,
        student=[steps.images, steps.pack],
        # Larger by 880 / 704, as the image is, so that both views show the same.
        teacher=[dict(type=steps.images.type, final_hw=(320, 880), resize=(-0.075, 0.1375)), steps.pack],
    ),
]
del links['boxes']
links.fused.adapter.update(in_channels=224, out_channels=256)
links.increment.loss.adapter.update(in_channels=224, out_channels=256)
# Maps of 125 x 125 and 100 x 100 cells, lifted from 250 x 250 and 200 x 200, over the same 100 m.
links.fused.loss.resample = 'bilinear'
links.frames.loss.update(teacher_height=6, resample='bilinear')
links.increment.loss.update(teacher_height=6, resample='bilinear')
links.saliency.loss.resample = 'bilinear'
links.classes.loss.resample = 'bilinear'
links.frames.loss.update(student_frames=num_frames, teacher_frames=num_frames)
links.increment.loss.update(student_frames=num_frames, teacher_frames=num_frames)
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=dict(
        widths=bev_encoder_widths,
        # ResNets of other depth have tensors of equal names that do other work.
        skip=['backbone.*'],
    ),
    links=links,
)
