"""As the config of stride 2, with a heatmap of 32 x 32 cells. Row (a) of DHA's grid."""

from mmengine.config import read_base

map_stride = 8

with read_base():
    from .center_point_pillar_crowd_stride2_256x256_40e_stcrowd import *
