"""PVD from Cylinder3D 1.0x to 0.5x on nuScenes-lidarseg, as on SemanticKITTI.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

# Share of the 1,185,656,192 points of v1.0-trainval, those without a class too, by the counts that nuscenes-devkit's
# `get_lidarseg_num_points_per_class` gives for it (taken from two projects that print them).
class_shares = {
    'barrier': 0.00785,
    'bicycle': 0.00012,
    'bus': 0.00388,
    'car': 0.03214,
    'construction_vehicle': 0.00128,
    'motorcycle': 0.00036,
    'pedestrian': 0.00195,
    'traffic_cone': 0.00062,
    'trailer': 0.00414,
    'truck': 0.01336,
    'driveable_surface': 0.26733,
    'other_flat': 0.00722,
    'sidewalk': 0.05921,
    'terrain': 0.05928,
    'manmade': 0.15028,
    'vegetation': 0.10339,
}
link_match = 1.0

with read_base():
    from .._base_.distill.cylinder_widths import *
    from .._base_.distill.point_voxel import *
    from ..cylinder3d.cylinder3d_w050_480x360x32_40e_nuscenes_lidarseg import *
    from ..cylinder3d.cylinder3d_w100_480x360x32_40e_nuscenes_lidarseg import model as teacher

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=dict(widths=cylinder_widths),
    links=links,
)
del teacher
