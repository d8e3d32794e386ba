"""A small Fast-BEV for the built-in world on a CPU: 1 M parameters, images of 96 x 256, minutes of training."""

from mmengine.config import read_base
from mmengine.optim import LinearLR, OptimWrapper, PolyLR
from torch.optim import AdamW

with read_base():
    from .._base_.datasets.nuscenes_camera import *
    from .._base_.models.fast_bev_r18 import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cbgs20e import *

data_root = 'data/sim_tiny'
image_hw = (96, 256)
num_frames = 1

# Without class-balanced sampling.
train_dataloader.dataset = train_dataloader.dataset.dataset
train_dataloader.update(batch_size=2, num_workers=1)
train_dataloader.dataset.update(data_root=data_root, ann_file='perception3d_infos_sim_train.pkl', num_frames=num_frames)
# A few minutes of training see each sample a few times: only mirrored streets are worth their noise.
train_dataloader.dataset.pipeline[1].update(final_hw=image_hw, test_mode=True)
train_dataloader.dataset.pipeline[3].update(flip_y_prob=0.0, rotate_rad=(-0.05, 0.05), scale=(1.0, 1.0))
val_dataloader.update(batch_size=4, num_workers=1)
val_dataloader.dataset.update(data_root=data_root, ann_file='perception3d_infos_sim_val.pkl', num_frames=num_frames)
val_dataloader.dataset.pipeline[1].final_hw = image_hw
test_dataloader = val_dataloader
val_evaluator.data_root = data_root
test_evaluator.data_root = data_root

# Nothing is pretrained here, so the whole backbone learns, statistics included.
model.backbone.update(base_channels=16, stem_channels=16, frozen_stages=-1, norm_eval=False)
model.neck.update(in_channels=[16, 32, 64, 128], out_channels=16)
model.neck_fuse.update(in_channels=16, out_channels=24, upsample=4)
# The tiny world ends at 24 m. The lowest samples lie on the ground, 1.84 m below the LiDAR: where an object stands, the
# pixel of its foot falls into the voxel at its place, which tells its distance.
model.grids = [dict(range_m=(-32, -32, -1.84, 32, 32, 2.16), shape=(64, 64, 4))]
model.neck_3d.update(fuse_channels=24 * 4, in_channels=32, out_channels=64, num_layers=1, stride=2)
# One frame does not tell a speed, so the last two codes have no weight.
model.bbox_head.update(
    in_channels=64,
    anchors=dict(range_m=(-32.0, -32.0, 32.0, 32.0)),
    code_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
)

max_epochs = 12
train_cfg.update(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=2e-3, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, by_epoch=False, begin=0, end=50),
    dict(type=PolyLR, power=1.0, eta_min=0, begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True),
]
