"""DHA-R on the finest maps of two frames, the earlier one aligned by 1 m at most: `models.crowd.two_frame`."""

from mmengine.config import read_base

from perception3d.models.crowd.two_frame import TwoFrameDensityHead, TwoFrameVoxelNet
from perception3d.models.lidar_det.preprocessor import TwoFrameDataPreprocessor

with read_base():
    from .dha_pillar import *

model.type = TwoFrameVoxelNet
model.data_preprocessor.type = TwoFrameDataPreprocessor
model.bbox_head.type = TwoFrameDensityHead
model.fusion = dict(channels=neck_channels, range_m=model.bbox_head.range_m, max_offset_m=1.0)
