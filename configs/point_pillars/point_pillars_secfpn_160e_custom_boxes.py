"""PointPillars on clouds of your own (data/README.md): copy this file and set its values, the rest follows."""

from mmengine.config import read_base

data_root = 'data/custom'
# Of each class: length, width and height of a usual object in metres; the overlaps with it from which on an anchor is
# positive and below which it is negative; and the overlap from which on the evaluation counts a box as right.
objects = dict(
    Pedestrian=dict(size=[0.8, 0.6, 1.73], overlaps=[0.5, 0.35], score_overlap=0.5),
    Cyclist=dict(size=[1.76, 0.6, 1.73], overlaps=[0.5, 0.35], score_overlap=0.5),
    Car=dict(size=[3.9, 1.6, 1.56], overlaps=[0.6, 0.45], score_overlap=0.5),
)
# x, y, z from and to, in metres from the LiDAR; it has a multiple of eight pillars along x and along y.
point_cloud_range = [-51.2, -51.2, -5, 51.2, 51.2, 3]
pillar_size = [0.16, 0.16]
# Where the ground lies, as seen from the LiDAR.
ground_z_m = -1.7
# Floats of a point: x, y, z and what else the LiDAR gives.
num_features = 4

with read_base():
    from .._base_.custom_point_pillars import *
