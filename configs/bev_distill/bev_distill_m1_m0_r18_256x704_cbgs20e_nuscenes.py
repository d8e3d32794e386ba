"""Fast-BEV M1 (320 x 880) teaches M0 (256 x 704): one network, the student sees two thirds of the pixels.

`--cfg-options model.teacher_checkpoint=...` names the teacher's weights; all of the student's can be inherited.
"""

import copy

from mmengine.config import read_base

from perception3d.datasets.transforms.paired import PairedViews
from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.bev_links import *
    from ..fast_bev.fast_bev_m0_r18_256x704_cbgs20e_nuscenes import *

# Loading, boxes and the augmentation of the LiDAR frame are shared; images are cropped and rotated alike at two sizes.
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
links.frames.loss.update(student_frames=num_frames, teacher_frames=num_frames)
links.increment.loss.update(student_frames=num_frames, teacher_frames=num_frames)
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(model),
    teacher_checkpoint=None,
    inherit=True,
    links=links,
)
