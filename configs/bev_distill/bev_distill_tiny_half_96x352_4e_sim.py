"""Structured distillation of the width pair: the tiny Fast-BEV teaches one with half its channels.

The parts and their switches are those of `bev_distill_tiny_64x224_4e_sim.py`. The student inherits the teacher's most
important channels.
"""

import copy

from mmengine.config import read_base

with read_base():
    from .._base_.distill.fast_bev_widths import *
    from ..fast_bev.fast_bev_tiny_96x352_8e_sim import model as teacher
    from ..fast_bev.fast_bev_tiny_half_96x352_4e_sim import *
    from .bev_distill_tiny_64x224_4e_sim import links

from perception3d.distill.distiller import Distiller

links.fused.adapter.update(in_channels=16, out_channels=32)
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=dict(widths=fast_bev_widths),
    links=links,
)
