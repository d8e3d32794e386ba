"""SAD: ENet learns from its own deeper layers.

The plain config `configs/enet/enet_288x960_12e_llamas.py` tests what it has learned."""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.lane_sad import *
    from ..enet.enet_288x960_12e_llamas import *

model = dict(type=Distiller, student=copy.deepcopy(model), links=links)
