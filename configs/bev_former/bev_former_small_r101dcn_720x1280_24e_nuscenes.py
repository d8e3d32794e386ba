"""BEVFormer-small: ResNet-101 with deformable convolutions, 720 x 1280, 150 x 150 pillars.

Published: mAP 37.0, NDS 47.9. The released run starts from an FCOS3D checkpoint (r101_dcn_fcos3d_pretrain.pth).
"""

from mmengine.config import read_base

image_hw = (720, 1280)

with read_base():
    from .bev_former_tiny_r50_450x800_24e_nuscenes import *

model.data_preprocessor.update(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
model.backbone.update(
    depth=101,
    style='caffe',
    with_cp=True,
    dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
    stage_with_dcn=(False, False, True, True),
)
# mmcv's deformable convolution takes contiguous tensors.
model.channels_last = False
model.encoder.grid.shape = (150, 150)
