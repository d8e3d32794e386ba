"""Batch norm over the samples of all processes, on any device: those of torch and mmcv train on GPUs only."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class ProcessBatchNorm(_BatchNorm):
    """Batch norm that takes its statistics in training from all processes together.

    Outputs, running statistics and gradients are those of one process with the whole batch, also where processes hold
    different numbers of samples. In eval mode, and in one process, it is torch's batch norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f'expected at least 2 dimensions, got {input.dim()}')

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, ...) and returns the same shape and type."""
        if not self.training or get_world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        # float32 at least, for sums over a batch. Centred before squaring: a mean far from 0 loses no precision.
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        over, shape = [0, *range(2, input.dim())], [1, -1] + [1] * (input.dim() - 2)
        own = values.new_tensor([values.numel() / values.shape[1]])
        total = _SumOverProcesses.apply(torch.cat([values.sum(over), own]))
        count = total[-1].detach().clamp(min=1)
        mean = total[:-1] / count
        centred = values - mean.view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(over)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            centred = centred * (scale * self.weight).view(shape) + self.bias.view(shape)
        else:
            centred = centred * scale.view(shape)
        return centred.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running += share * (value - running)


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over the processes, and so of its gradient: each process's loss depends on the sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _summed(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _summed(grad)


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    all_reduce(total, 'sum')
    return total


def join_batch_norms(model: nn.Module) -> nn.Module:
    """Replaces every batch norm in `model`, in place, by one over all processes with the same parameters and buffers.

    Returns the model, or its replacement where it is a batch norm itself.
    """
    joined: dict[nn.Module, nn.Module] = {}
    # With duplicates, so that a norm which two parts share stays shared.
    for name, norm in [*model.named_modules(remove_duplicate=False)]:
        if not isinstance(norm, _BatchNorm) or isinstance(norm, ProcessBatchNorm):
            continue
        if norm not in joined:
            joined[norm] = _joined(norm)
        if not name:
            return joined[norm]
        parent, _, child = name.rpartition('.')
        setattr(model.get_submodule(parent), child, joined[norm])
    return model


def _joined(norm: _BatchNorm) -> ProcessBatchNorm:
    new = ProcessBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new._parameters.update(norm._parameters)
    new._buffers.update(norm._buffers)
    return new.train(norm.training)
