"""Cylinder3D 0.5x on nuScenes-lidarseg, as PVD has it there: the point network is half as wide too. 14.0 M."""

from mmengine.config import read_base

width, compressed_channels, point_channels = 16, 16, 128

with read_base():
    from .cylinder3d_w100_480x360x32_40e_nuscenes_lidarseg import *
