"""Fast-BEV M0 with four frames teaches M0 with one: the student is to guess from a single frame what motion tells.

It inherits everything; of the convolution that joins the frames, the filters of the current one.
"""

import copy

from mmengine.config import read_base

from perception3d.datasets.transforms.paired import KeepFrames, PairedViews
from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.bev_links import *
    from ..fast_bev.fast_bev_m0_r18_256x704_1frame_cbgs20e_nuscenes import *

# All four frames are loaded and augmented; the student's view keeps the newest.
train_dataloader.dataset.dataset.num_frames = 4
steps = train_dataloader.dataset.dataset.pipeline
train_dataloader.dataset.dataset.pipeline = [
    steps.load,
    steps.images,
    steps.boxes,
    steps.bev,
    steps.boxes_in_range,
    dict(type=PairedViews, student=[dict(type=KeepFrames, num_frames=num_frames), steps.pack], teacher=[steps.pack]),
]
teacher = copy.deepcopy(model)
teacher.neck_3d.fuse_channels = 64 * 4 * 4
# The student has one frame: neither relations between frames nor what history frames add can be compared.
del links['frames'], links['increment']
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=teacher,
    teacher_checkpoint=None,
    inherit=dict(frames={'neck_3d.fuse': dict(teacher=4, student=num_frames, channels=64)}),
    links=links,
)
