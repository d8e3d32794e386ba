"""Regression of the steering angle from one image: a ResNet with a small head."""

from perception3d.models.lane.preprocessor import LanePreprocessor
from perception3d.models.lane.steering import SteeringRegressor

input_hw = [288, 800]
depth, base_channels = 18, 64
# About the spread of the angles.
unit_rad = 0.1
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

model = dict(
    type=SteeringRegressor,
    input_hw=input_hw,
    depth=depth,
    base_channels=base_channels,
    unit_rad=unit_rad,
    data_preprocessor=dict(type=LanePreprocessor, mean=mean, std=std),
)
