"""ResNets with dilated last stages: 11.9, 22.0 and 43.4 M parameters (18, 34, 101) for four lanes at 800 x 288.

`pretrained` takes a checkpoint of torchvision's ResNet of the same depth, with which all published ones began.
"""

from mmengine.config import read_base

from perception3d.models.lane.lane_resnet import LaneResNet

depth = 18
# Channels of the first stage.
base_channels = 64
# Pixels of the image a cell of the maps: 4 where lanes are narrower than 8 pixels.
output_stride = 8
pretrained = None

with read_base():
    from .lane_segmentor import *

model.net.update(
    type=LaneResNet, depth=depth, base_channels=base_channels, output_stride=output_stride, pretrained=pretrained
)
