"""DHA-R on voxels of 0.12 x 0.16 x 0.2 m: stages of the sparse encoder at strides 2 and 4, and its map at stride 8."""

from mmengine.config import read_base

from perception3d.models.crowd.neck import LevelPyramid, SparseLevels

map_stride = 8

with read_base():
    from .center_point_voxel_crowd import *

# The stages leave 16 and 8 of 31 layers of voxels.
model.middle_encoder.update(return_middle_feats=True, output_channels=128)
model.backbone = dict(type=SparseLevels)
model.neck = dict(type=LevelPyramid, in_channels=[16 * 32, 8 * 64, 128], out_channels=neck_channels)
model.bbox_head.in_channels = neck_channels
model.bbox_head.parts.update(levels=3, aggregation='density', density=True, coarse=True)
model.bbox_head.targets.update(kernel='density', weighted=True)
