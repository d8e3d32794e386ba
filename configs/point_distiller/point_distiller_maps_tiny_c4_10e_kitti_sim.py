"""PointDistiller on pillars and on the maps of the backbone and the neck, with the teacher's weights where they fit.

Every part has its switch: a link with `model.links.<name>.weight=0`, the weights with `model.inherit=False`.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.distill.lidar_widths import *
    from .point_distiller_tiny_c4_10e_kitti_sim import *

model.inherit = dict(widths=tiny_pillars_widths)
map_loss = dict(type=PointDistiller, channels=32, num_nodes=256, num_neighbors=32, importance='feature')
for level, channels in enumerate((16, 32, 64)):
    model.links[f'level{level}'] = dict(
        student=f'backbone[{level}]',
        teacher=f'backbone[{level}]',
        loss=dict(**map_loss, student_channels=channels, teacher_channels=2 * channels),
        weight=0.2,
        **timing,
    )
model.links.neck = dict(
    student='neck[0]',
    teacher='neck[0]',
    loss=dict(**map_loss, student_channels=96, teacher_channels=192),
    weight=0.5,
    **timing,
)
del level, channels
