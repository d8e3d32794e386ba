"""As the config of stride 2, with a heatmap of 32 x 32 cells. Row (a) of DHA's grid."""

from mmengine.config import read_base

map_stride = 8

with read_base():
    from .center_point_pillar_crowd_tiny_stride2_256x256_10e_stcrowd_sim import *
