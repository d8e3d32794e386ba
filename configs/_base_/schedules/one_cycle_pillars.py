"""The one cycle of PointPillars: 80 epochs over data repeated twice, from 0.001, gradients clipped at 35."""

from mmengine.config import read_base

with read_base():
    from .one_cycle import *

lr, max_epochs = 0.001, 80
rise_epochs = max_epochs * 2 // 5 or 0.4 * max_epochs
optim_wrapper.optimizer.lr = lr
optim_wrapper.clip_grad.max_norm = 35
train_cfg.update(max_epochs=max_epochs, val_interval=2)
param_scheduler[0].update(T_max=rise_epochs, end=rise_epochs, eta_min=lr * 10)
param_scheduler[1].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs, eta_min=lr * 1e-4)
param_scheduler[2].update(T_max=rise_epochs, end=rise_epochs)
param_scheduler[3].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs)
