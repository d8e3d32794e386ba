"""SCNN on VGG16: 20.7 M parameters for four lanes at 800 x 288. Its loss has no IoU.

`pretrained` takes a checkpoint of torchvision's `vgg16_bn`, with which the published one began.
"""

from mmengine.config import read_base

from perception3d.models.lane.scnn import SCNN

# Channels of the first group of VGG16.
width = 64
pretrained = None

with read_base():
    from .lane_segmentor import *

model.net.update(type=SCNN, width=width, pretrained=pretrained)
del model.losses['iou']
