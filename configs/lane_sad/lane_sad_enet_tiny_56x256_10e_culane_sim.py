"""SAD: a small ENet learns from its own deeper layers, in the built-in world."""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

# Earlier than in the paper: of a cosine schedule 6 % of the learning, the sum of all rates, are left at two thirds.
sad_start, sad_ramp = 0.3, 0.1

with read_base():
    from .._base_.distill.lane_sad import *
    from ..enet.enet_tiny_56x256_10e_culane_sim import *

model = dict(type=Distiller, student=copy.deepcopy(model), links=links)
