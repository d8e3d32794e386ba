"""A small Fast-BEV for the built-in world on a CPU: 0.23 M parameters, images of 96 x 352, minutes of training."""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from torch.optim import AdamW

from perception3d.models.fast_bev.center_head import CenterBEVHead

with read_base():
    from .._base_.datasets.nuscenes_camera import *
    from .._base_.models.fast_bev_r18 import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cbgs20e import *

data_root = 'data/sim_tiny'
image_hw = (96, 352)
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
model.backbone.update(
    base_channels=16,
    stem_channels=8,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(0, 1, 2),
    frozen_stages=-1,
    norm_eval=False,
)
model.neck.update(in_channels=[16, 32, 64], out_channels=16, num_outs=3)
model.neck_fuse.update(num_levels=3, in_channels=16, out_channels=16)
# The tiny world ends at 24 m. Its cars hang their sensors at different heights, so the grid follows the ground: its
# lowest samples lie on the road, and the pixel of an object's foot falls into the voxel at its place, which tells its
# distance.
model.ground_z_m = -1.84
range_m = (-25.6, -25.6, 25.6, 25.6)
model.grids = [dict(range_m=(-25.6, -25.6, -1.84, 25.6, 25.6, 2.16), shape=(64, 64, 4))]
model.neck_3d.update(fuse_channels=16 * 4 * num_frames, in_channels=32, out_channels=32, num_layers=0, stride=1)
# Not the paper's head: this one learns in a few minutes what FreeAnchor does not. One frame does not tell a speed, so
# the last two codes have no weight.
model.bbox_head = dict(
    type=CenterBEVHead,
    in_channels=32,
    hidden_channels=32,
    range_m=range_m,
    code_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
)

max_epochs = 9
train_cfg.update(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=3e-3, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2),
)
# A third of the training, in whole epochs where it has three or more.
warmup_epochs = max_epochs // 3 or max_epochs / 3
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, by_epoch=True, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type=CosineAnnealingLR,
        eta_min=0,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
