"""DHA-R on points with features of the left image, where it sees them: `models.crowd.painting`.

Three stages of a ResNet-18, from random weights, and a feature pyramid, of which the map of stride 8 with 64 channels
is read. Our choice: small enough for a CPU next to the LiDAR's network.
"""

from mmdet.models.backbones import ResNet
from mmdet.models.necks import FPN
from mmengine.config import read_base

from perception3d.models.crowd.painting import PaintedVoxelNet

# Channels of what is painted, and of the first stage of the image network.
image_channels, image_stem_channels = 64, 64

with read_base():
    from .dha_pillar import *

model.type = PaintedVoxelNet
model.data_preprocessor.update(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_size_divisor=32
)
model.voxel_encoder.in_channels = num_features + image_channels + 1
model.image_backbone = dict(
    type=ResNet,
    depth=18,
    base_channels=image_stem_channels,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(1, 2),
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
    style='pytorch',
)
model.image_neck = dict(
    type=FPN,
    in_channels=[2 * image_stem_channels, 4 * image_stem_channels],
    out_channels=image_channels,
    num_outs=2,
)
model.image_channels = image_channels
