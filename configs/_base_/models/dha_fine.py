"""DHA-R with one more level, of whole pillars (256 x 256 cells). Its kernels and gate continue the others' rule [P]."""

from mmengine.config import read_base

with read_base():
    from .dha_pillar import *

model.backbone.update(out_channels=[64, 64, 128, 256], layer_nums=[1, 3, 5, 5], layer_strides=[1, 2, 2, 2])
model.neck.in_channels = [64, 64, 128, 256]
model.bbox_head.parts.levels = 4
model.bbox_head.targets.update(
    sigmas_m=[(0.06, 0.15), (0.12, 0.30), (0.24, 0.60), (0.48, 1.2)], gate_densities=[10.0, 5.0, 2.5, 1.0]
)
