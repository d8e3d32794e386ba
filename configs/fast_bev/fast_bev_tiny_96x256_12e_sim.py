"""A small Fast-BEV for the built-in world on a CPU: 1.9 M parameters, images of 96 x 256, minutes of training."""

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
train_dataloader.update(batch_size=4, num_workers=1)
train_dataloader.dataset.update(data_root=data_root, ann_file='perception3d_infos_sim_train.pkl', num_frames=num_frames)
train_dataloader.dataset.pipeline[1].final_hw = image_hw
val_dataloader.update(batch_size=4, num_workers=1)
val_dataloader.dataset.update(data_root=data_root, ann_file='perception3d_infos_sim_val.pkl', num_frames=num_frames)
val_dataloader.dataset.pipeline[1].final_hw = image_hw
test_dataloader = val_dataloader
val_evaluator.data_root = data_root
test_evaluator.data_root = data_root

# Nothing is pretrained here, so the whole backbone learns, statistics included.
model.backbone.update(base_channels=24, stem_channels=24, frozen_stages=-1, norm_eval=False)
model.neck.update(in_channels=[24, 48, 96, 192], out_channels=32)
model.neck_fuse.update(in_channels=32, out_channels=32)
model.grids = [dict(range_m=(-50, -50, -4, 50, 50, 2), shape=(100, 100, 4))]
model.neck_3d.update(fuse_channels=32 * 4, in_channels=48, out_channels=64, num_layers=1, stride=1)
model.bbox_head.in_channels = 64

max_epochs = 12
train_cfg.update(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, by_epoch=False, begin=0, end=50),
    dict(type=PolyLR, power=1.0, eta_min=0, begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True),
]
