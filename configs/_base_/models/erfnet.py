"""ERFNet: 2.61 M parameters for four lanes at 976 x 208, 2.68 M at 800 x 288."""

from mmengine.config import read_base

from perception3d.models.lane.erfnet import ERFNet

with read_base():
    from .lane_segmentor import *

model.net.update(type=ERFNet)
