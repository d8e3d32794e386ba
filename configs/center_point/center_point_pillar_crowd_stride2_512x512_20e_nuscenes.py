"""CenterPoint at stride 2 for the pedestrians of nuScenes: the baseline of `dha_pillar_512x512_20e_nuscenes.py`."""

from mmengine.config import read_base

point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
voxel_size = [0.2, 0.2, 8]
# x, y, z, intensity, age.
num_features = 5

with read_base():
    from .._base_.models.center_point_pillar_crowd import *
    from .._base_.pedestrians_nuscenes import *
