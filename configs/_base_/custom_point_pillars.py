"""PointPillars on clouds of your own: the network and the schedule of KITTI, without moving single objects.

`configs/point_pillars/point_pillars_secfpn_160e_custom_boxes.py` sets the values above `with read_base()`.
"""

from mmengine.config import read_base

data_root = 'data/custom'
objects = dict(Car=dict(size=[3.9, 1.6, 1.56], overlaps=[0.6, 0.45], score_overlap=0.5))
point_cloud_range = [-51.2, -51.2, -5, 51.2, 51.2, 3]
pillar_size = [0.16, 0.16]
ground_z_m = -1.7
num_features = 4

class_names = list(objects)
anchor_sizes = {name: values['size'] for name, values in objects.items()}
anchor_overlaps = {name: values['overlaps'] for name, values in objects.items()}
anchor_bottoms_m = dict.fromkeys(class_names, ground_z_m)
score_overlaps = {name: values['score_overlap'] for name, values in objects.items()}
# A pillar is as high as the range.
voxel_size = [*pillar_size, point_cloud_range[5] - point_cloud_range[2]]

with read_base():
    from .datasets.custom_boxes import *
    from .models.point_pillars_secfpn import *
    from .runtime import *
    from .schedules.one_cycle_pillars import *

# The backbone halves the map three times.
if any(abs(map_shape[1 - axis] * pillar_size[axis] - point_cloud_range[axis + 3] + point_cloud_range[axis]) > 1e-3
       or map_shape[1 - axis] % 8 for axis in (0, 1)):  # fmt: skip
    raise ValueError(
        f'point_cloud_range {point_cloud_range} has {map_shape[1]} x {map_shape[0]} pillars of {pillar_size} m (x, y): '
        'expected whole pillars and a multiple of 8 of them along both'
    )
del train_dataloader.dataset.dataset.pipeline['move']
