"""Fast-BEV M0 with a centre head on a camera rig of your own, in tables of nuScenes' format.

`configs/fast_bev/fast_bev_m0_r18_256x704_cbgs20e_custom_rig.py` sets the values above `with read_base()`. Nothing is
pretrained, so the whole backbone learns, statistics included. The head learns all classes in one heatmap: it needs no
anchors and fewer steps than the paper's.
"""

from mmengine.config import read_base

from perception3d.models.fast_bev.center_head import CenterBEVHead

class_names = ['car']
num_frames = 1
range_m = [-50, -50, -4, 50, 50, 2]
voxel_shape = (200, 200, 4)
# Boxes may stand out of the grid by a metre upwards and downwards.
point_cloud_range = [*range_m[:2], range_m[2] - 1, *range_m[3:5], range_m[5] + 1]

with read_base():
    from .datasets.nuscenes_camera import *
    from .models.fast_bev_r18 import *
    from .runtime import *
    from .schedules.adamw_cbgs20e import *

metainfo = dict(classes=class_names)
train_dataloader.dataset.dataset.metainfo = metainfo
val_dataloader.dataset.metainfo = metainfo
test_dataloader = val_dataloader

model.backbone.update(frozen_stages=-1, norm_eval=False)
model.grids = [dict(range_m=range_m, shape=voxel_shape)]
# Channels * heights * frames.
model.neck_3d.fuse_channels = 64 * voxel_shape[2] * num_frames
model.bbox_head = dict(
    type=CenterBEVHead,
    num_classes=len(class_names),
    in_channels=192,
    range_m=[*range_m[:2], *range_m[3:5]],
    # One frame does not tell a speed.
    code_weights=[1.0] * 8 + [0.2 if num_frames > 1 else 0.0] * 2,
)
