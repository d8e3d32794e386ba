"""AdamW for tiny camera detectors: warm-up for a third of the training, then a cosine to zero."""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from torch.optim import AdamW

max_epochs = 9
val_interval = max_epochs

with read_base():
    from .adamw_cbgs20e import *

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=3e-3, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2),
)
# In whole epochs where a third of the training is one or more.
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
