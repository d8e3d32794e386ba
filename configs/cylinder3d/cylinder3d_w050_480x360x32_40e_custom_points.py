"""Cylinder3D 0.5x on labelled clouds of your own (data/README.md): copy this file and set its values."""

from mmengine.config import read_base

data_root = 'data/custom_points'
# Classes of classes.json that the model tells apart, in the order of its outputs; points of others are not labelled.
class_names = ['road', 'car']
# Floats of a point, and the columns of those behind x, y, z that are features. A column is given as it is stored.
num_features = 4
point_columns = [3]
# Cells along distance, azimuth and height, and what they cover, in metres from the LiDAR. Points further, lower or
# higher count as points of the border.
grid_shape = [480, 360, 32]
max_distance_m = 50
height_range_m = [-4, 2]
# Half of the published channels: those are 32 and 32.
width, compressed_channels = 16, 16
max_epochs, val_interval = 40, 5
# Weights are averaged over about 1 / this many steps, and the average is tested: 0.005 for trainings of a few thousand.
averaging_momentum = 0.0002

with read_base():
    from .._base_.datasets.custom_points import *
    from .._base_.models.cylinder3d import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
