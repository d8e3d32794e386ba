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

# Only assignments may stand above `with read_base()`: an object that lacks a key is refused below it.
class_names = list(objects)
anchor_sizes = {name: values.get('size', [1, 1, 1]) for name, values in objects.items()}
anchor_overlaps = {name: values.get('overlaps', [1, 0]) for name, values in objects.items()}
anchor_bottoms_m = dict.fromkeys(class_names, ground_z_m)
score_overlaps = {name: values.get('score_overlap') for name, values in objects.items()}
# A pillar is as high as the range.
voxel_size = [*pillar_size, point_cloud_range[5] - point_cloud_range[2]]

with read_base():
    from .datasets.custom_boxes import *
    from .models.point_pillars_secfpn import *
    from .runtime import *
    from .schedules.one_cycle_pillars import *

for name, values in objects.items():
    if sorted(values) != ['overlaps', 'score_overlap', 'size']:
        raise ValueError(f'objects: {name} has the keys {sorted(values)}: expected overlaps, score_overlap and size')
# The backbone halves the map three times.
for axis, letter in enumerate('xy'):
    first_m, last_m = point_cloud_range[axis], point_cloud_range[axis + 3]
    pillars = (last_m - first_m) / pillar_size[axis]
    fitting = max(1, round(pillars / 8)) * 8
    length_m = fitting * pillar_size[axis]
    start_m = -length_m / 2 if first_m == -last_m else first_m
    if abs(pillars - fitting) > 1e-3:
        raise ValueError(
            f'point_cloud_range {point_cloud_range} has {pillars:.6g} pillars of {pillar_size[axis]} m along {letter}: '
            f'expected a multiple of 8, such as {fitting}, {letter} from {start_m:.6g} to {start_m + length_m:.6g}'
        )
del train_dataloader.dataset.dataset.pipeline['move']
del name, values, axis, letter, first_m, last_m, pillars, fitting, length_m, start_m
