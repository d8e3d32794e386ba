"""The tiny Fast-BEV of `make demo`: two thirds of the epochs, at the full rate for longer."""

from mmengine.config import read_base
from mmengine.optim import ConstantLR, LinearLR, PolyLR

max_epochs = 6
warmup_epochs = max_epochs / 6

with read_base():
    from .fast_bev_tiny_96x352_9e_sim import *

# In so short a training a rate that falls from the start leaves too little: it stays up for half of it.
decay_epoch = max_epochs / 2
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, by_epoch=True, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type=ConstantLR, factor=1.0, by_epoch=True, begin=warmup_epochs, end=decay_epoch, convert_to_iter_based=True),
    dict(
        type=PolyLR, power=1.0, eta_min=0, by_epoch=True, begin=decay_epoch, end=max_epochs, convert_to_iter_based=True
    ),
]
