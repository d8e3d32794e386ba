"""CenterPoint at stride 2 for the pedestrians of KITTI: the baseline of `dha_pillar_256x288_160e_kitti.py`."""

from mmengine.config import read_base

# As PointPillars has it for people, 0 to 48 m, -20 to 20 m, -2.5 to 0.5 m, in whole cells of the coarsest map.
point_cloud_range = [0, -20.48, -2.5, 46.08, 20.48, 0.5]
voxel_size = [0.16, 0.16, 3]

with read_base():
    from .._base_.models.center_point_pillar_crowd import *
    from .._base_.pedestrians_kitti import *
