"""Fast-BEV M0 with one frame and a thinner BEV encoder, made to overfit one real keyframe.

A check of the whole path on real data: images, projections, lift, head, metric. M0's encoder of 256 channels would
need about two thirds of all multiplications.
"""

from mmengine.config import read_base
from mmengine.dataset import RepeatDataset
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from torch.optim import AdamW

data_root = 'data/sample_nuscenes'
train_ann_file = val_ann_file = 'perception3d_infos_mini_train.pkl'

with read_base():
    from .fast_bev_m0_r18_256x704_1frame_cbgs20e_nuscenes import *

num_iters = 200

# One sample again and again, as the test sees it: no augmentation, no class balancing.
keyframe = train_dataloader.dataset.dataset
keyframe.pipeline.images.test_mode = True
del keyframe.pipeline['bev']
train_dataloader.dataset = dict(type=RepeatDataset, dataset=keyframe, times=num_iters)
train_dataloader.update(num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = val_dataloader

# No weights are loaded, so all layers learn; with one sample, batch statistics are those of the test as well.
model.backbone.update(frozen_stages=-1, norm_eval=False)
model.neck_3d.update(in_channels=64, num_layers=1)
# Gradients of wide convolutions are faster so on a CPU with AVX2 alone.
model.channels_last = False

train_cfg.update(max_epochs=1, val_interval=1)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=20, end=num_iters, eta_min=1e-5),
]
default_hooks.logger.interval = 10
