"""Cylinder3D 0.5x as PVD's checkpoint for nuScenes computes it, for tools/convert_weights.py."""

from mmengine.config import read_base

refine = False

with read_base():
    from .cylinder3d_w050_480x360x32_40e_nuscenes_lidarseg import *

model.net.legacy_shared_indices = True
