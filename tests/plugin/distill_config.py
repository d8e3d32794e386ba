from distill_parts import PointAdapter, PointGap
from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .plugin_config import *

model = dict(
    type=Distiller,
    student=dict(type=BlobDetector, width=4),
    teacher=dict(type=BlobDetector, width=16),
    teacher_checkpoint=None,
    links=dict(
        hidden=dict(
            student='net.2',
            teacher='net.1',
            adapter=dict(type=PointAdapter, in_features=4, out_features=16),
            loss=dict(type=PointGap),
            weight=0.5,
            match=1.0,
            match_steps=10,
            start=4,
            ramp=0.25,
        ),
        answer=dict(student='net.3', teacher='net.3', loss=dict(type=PointGap), every=3),
    ),
)
optim_wrapper.accumulative_counts = 2
