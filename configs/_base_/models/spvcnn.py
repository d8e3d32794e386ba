"""SPVCNN (arXiv 2007.16100): MinkUNet18 with a branch of points, 21.8 M parameters, cross-entropy of points."""

from mmengine.config import read_base

from perception3d.models.lidar_seg.losses import WeightedCrossEntropy
from perception3d.models.lidar_seg.spvcnn import SPVCNN

with read_base():
    from .mink_unet import *

model.net.type = SPVCNN
model.losses = dict(point_ce=dict(of='point', type=WeightedCrossEntropy))
model.predict_from = 'point'
