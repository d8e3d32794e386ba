"""One real scan again and again, as the test sees it: `num_iters` iterations of batch 1."""

from mmengine.config import read_base
from mmengine.dataset import RepeatDataset
from mmengine.optim import CosineAnnealingLR, LinearLR

data_root = 'data/sample_semantickitti'
lr, max_epochs, val_interval = 0.01, 1, 1
num_iters = 200

with read_base():
    from ..datasets.semantickitti import *
    from .adamw_cosine import *

scans = train_dataloader.dataset
for name in ('mirror', 'rotate'):
    del scans.pipeline[name]
train_dataloader.dataset = dict(type=RepeatDataset, dataset=scans, times=num_iters)
train_dataloader.update(batch_size=1, num_workers=1)
val_dataloader.update(num_workers=1)
val_dataloader.dataset.ann_file = train_ann_file
test_dataloader = val_dataloader
del scans, name

optim_wrapper.optimizer.weight_decay = 0.0
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, by_epoch=False, begin=0, end=num_iters // 10),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=num_iters // 10, end=num_iters, eta_min=1e-5),
]
