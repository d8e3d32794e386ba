"""A small PointPillars for the built-in world in KITTI's format, on a CPU: 0 to 40 m ahead, maps of 0.4 m, 0.64 M.

Shallower than the published one and half as wide; everything else is the same. Make the data first:
`python tools/simulate.py kitti --out data/kitti_sim --profile lidar` and
`python tools/create_data.py kitti --root data/kitti_sim`.
"""

from mmengine.config import read_base

from perception3d.engine.fading import FadeObjectSampleHook

data_root = 'data/kitti_sim'
point_cloud_range = [0, -20, -3, 40, 20, 1]
voxel_size = [0.2, 0.2, 4]
sample_groups = dict(Car=8, Pedestrian=8, Cyclist=8)
# A quarter of the published peak rate goes with a twelfth of the batch.
lr, max_epochs = 0.0003, 10
val_interval = max_epochs

with read_base():
    from .point_pillars_secfpn_160e_kitti import *

train_dataloader.dataset = train_dataloader.dataset.dataset
train_dataloader.update(batch_size=4, num_workers=1)
val_dataloader.update(batch_size=4, num_workers=1)
test_dataloader = val_dataloader

model.data_preprocessor.voxel_layer.update(max_num_points=16, max_voxels=(8000, 8000))
model.voxel_encoder.feat_channels = [32]
model.middle_encoder.in_channels = 32
model.backbone.update(in_channels=32, layer_nums=[1, 2, 2], out_channels=[32, 64, 128])
model.neck.update(in_channels=[32, 64, 128], out_channels=[64, 64, 64])
model.bbox_head.update(in_channels=192, feat_channels=192)

# The last frames are real ones, without pasted objects.
custom_hooks = [dict(type=FadeObjectSampleHook, last_epochs=max_epochs // 5)]
