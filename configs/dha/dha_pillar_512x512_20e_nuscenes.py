"""DHA-R (our formulation, see `models.crowd.head`) for the pedestrians of nuScenes, on pillars of 0.2 m."""

from mmengine.config import read_base

point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
voxel_size = [0.2, 0.2, 8]
# x, y, z, intensity, age.
num_features = 5

with read_base():
    from .._base_.models.dha_pillar import *
    from .._base_.pedestrians_nuscenes import *
