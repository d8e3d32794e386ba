"""Classes or depths of pixels, for teachers of FM-Net: a ResNet, a neck that adds its last stages, a head.

A leaf sets `model.head`.
"""

from perception3d.models.lane.pixel_tasks import PixelTaskNet
from perception3d.models.lane.preprocessor import LanePreprocessor

input_hw = [288, 800]
teacher_depth, teacher_channels, neck_channels = 18, 64, 64
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

model = dict(
    type=PixelTaskNet,
    input_hw=input_hw,
    depth=teacher_depth,
    base_channels=teacher_channels,
    neck_channels=neck_channels,
    data_preprocessor=dict(type=LanePreprocessor, mean=mean, std=std),
)
