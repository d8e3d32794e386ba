"""SAD: ResNet-18 learns from its own deeper layers.

The plain config `configs/lane_resnet/lane_resnet_r18_208x976_12e_culane.py` tests what it has learned."""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.lane_sad import *
    from ..lane_resnet.lane_resnet_r18_208x976_12e_culane import *

model = dict(type=Distiller, student=copy.deepcopy(model), links=links)
