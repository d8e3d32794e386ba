"""A small PointPillars for the built-in world in KITTI's format, on a CPU: 0 to 40 m ahead, maps of 0.4 m, 0.64 M.

Shallower than the published one and half as wide; everything else is the same. Make the data first:
`python tools/simulate.py kitti --out data/kitti_sim --profile lidar` and
`python tools/create_data.py kitti --root data/kitti_sim`.
"""

from mmengine.config import read_base

from perception3d.engine.fading import FadeObjectSampleHook

with read_base():
    from .point_pillars_secfpn_160e_kitti import *

data_root = 'data/kitti_sim'
point_cloud_range = [0, -20, -3, 40, 20, 1]
voxel_size = [0.2, 0.2, 4]

train_dataloader.dataset = train_dataloader.dataset.dataset
train_dataloader.update(batch_size=4, num_workers=1)
train_dataloader.dataset.data_root = data_root
train_steps = train_dataloader.dataset.pipeline
train_steps[3].db_sampler.update(data_root=data_root, sample_groups=dict(Car=8, Pedestrian=8, Cyclist=8))
train_steps[6].point_cloud_range = point_cloud_range
train_steps[7].point_cloud_range = point_cloud_range
val_dataloader.update(batch_size=4, num_workers=1)
val_dataloader.dataset.data_root = data_root
val_dataloader.dataset.pipeline[2].point_cloud_range = point_cloud_range
tta_pipeline[2].transforms[2] = [val_dataloader.dataset.pipeline[2]]
test_dataloader = val_dataloader
val_evaluator.data_root = data_root
test_evaluator = val_evaluator
del train_steps

model.data_preprocessor.voxel_layer.update(
    point_cloud_range=point_cloud_range, voxel_size=voxel_size, max_num_points=16, max_voxels=(8000, 8000)
)
model.voxel_encoder.update(feat_channels=[32], voxel_size=voxel_size, point_cloud_range=point_cloud_range)
model.middle_encoder.update(in_channels=32, output_shape=[200, 200])
model.backbone.update(in_channels=32, layer_nums=[1, 2, 2], out_channels=[32, 64, 128])
model.neck.update(in_channels=[32, 64, 128], out_channels=[64, 64, 64])
model.bbox_head.update(in_channels=192, feat_channels=192)
model.bbox_head.anchor_generator.ranges = [
    [0, -20, -0.6, 40, 20, -0.6],
    [0, -20, -0.6, 40, 20, -0.6],
    [0, -20, -1.78, 40, 20, -1.78],
]

# A quarter of the published peak rate goes with a twelfth of the batch.
lr, max_epochs = 0.0003, 10
rise_epochs = max_epochs * 2 // 5 or 0.4 * max_epochs
optim_wrapper.optimizer.lr = lr
train_cfg.update(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler[0].update(T_max=rise_epochs, end=rise_epochs, eta_min=lr * 10)
param_scheduler[1].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs, eta_min=lr * 1e-4)
param_scheduler[2].update(T_max=rise_epochs, end=rise_epochs)
param_scheduler[3].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs)
# The last frames are real ones, without pasted objects.
custom_hooks = [dict(type=FadeObjectSampleHook, last_epochs=max_epochs // 5)]
