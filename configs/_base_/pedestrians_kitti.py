"""KITTI's pedestrians alone, 80 epochs over data repeated twice. The leaf sets range and pillars.

People who sit and cyclists are other classes: they are background.
"""

from mmengine.config import read_base

class_names = ['Pedestrian']
sample_groups = dict(Pedestrian=15)
min_points = dict(Pedestrian=10)

with read_base():
    from .datasets.kitti_lidar import *
    from .runtime import *
    from .schedules.one_cycle_pillars import *

# Single pedestrians that are moved on their own would leave their groups.
del train_dataloader.dataset.dataset.pipeline['move']
