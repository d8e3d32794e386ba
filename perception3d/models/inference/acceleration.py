"""Trained networks made faster for inference without other weights: folded norms, memory layout, CPU kernels."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from perception3d.models.inference.active_convolutions import ActiveBackbone
from perception3d.models.inference.upsampled_maps import UpsampledMaps
from perception3d.models.inference.winograd import Workspace, fewest_channels, use_winograd

_Module = TypeVar('_Module', bound=nn.Module)
_SPARSE = ('SubMConv3d', 'SparseConv3d', 'SparseInverseConv3d', 'SubMConv2d', 'SparseConv2d')


def accelerate(module: nn.Module, cpu_kernels: bool | None = None) -> nn.Module:
    """Prepares `module` for inference in float32, in place, and returns it in eval mode.

    Batch norms are folded into the convolutions before them and dense convolutions get the channels-last layout. On a
    CPU (`cpu_kernels`: None where that is) SECOND's backbone computes only what is not background, its neck is one
    pass (`ActiveBackbone`, `UpsampledMaps`), and other 3x3 convolutions run by `WinogradConv2d` where that is faster
    on this processor. The method `prepare_for_inference` of a module is called. Outputs change by rounding only, about
    1e-5 of their size. The module cannot be trained afterwards, its state dict has other keys, and its outputs may lie
    in memory that the next call of the same thread reuses.
    """
    module.eval().requires_grad_(False)
    fold_batch_norms(module)
    for part in module.modules():
        # A kernel of one pixel takes the layout of its input: PointNets, whose maps are groups of points, keep theirs.
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)) and part.kernel_size != (1, 1):
            # Torch's types do not know this argument.
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        prepare = getattr(part, 'prepare_for_inference', None)
        if prepare is not None:
            prepare()
    device = next(module.parameters()).device
    if device.type == 'cpu' if cpu_kernels is None else cpu_kernels:
        workspace = Workspace()
        _use_cpu_kernels(module, workspace)
        use_winograd(module, fewest_channels(), workspace)
    return module


def _use_cpu_kernels(module: nn.Module, workspace: Workspace) -> None:
    """Replaces, in place, the backbones and necks of SECOND that are nothing but plain convolutions."""
    children: list[tuple[str, Any]] = list(module.named_children())
    for name, child in children:
        name_of_class = type(child).__name__
        if name_of_class == 'SECOND' and ActiveBackbone.fits(child.blocks):
            setattr(module, name, ActiveBackbone(child.blocks, workspace))
        elif name_of_class == 'SECONDFPN' and UpsampledMaps.fits(child.deblocks):
            setattr(module, name, UpsampledMaps(child.deblocks, workspace))
        else:
            _use_cpu_kernels(child, workspace)


def fold_batch_norms(module: _Module) -> _Module:
    """Folds, in place, every batch norm into the convolution that is registered right before it; returns `module`.

    Dense, transposed and sparse (spconv) convolutions. A norm without running statistics stays.
    """
    last = None
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm) and last is not None and child.track_running_stats:
            setattr(module, name, _fold(last, child))
            last = None
            continue
        last = child if _channels_axis(child) is not None else None
        if last is None:
            fold_batch_norms(child)
    return module


def _channels_axis(conv: nn.Module) -> int | None:
    """Returns the axis of the weight that counts outputs, None for other modules and for convolutions with groups."""
    if isinstance(conv, nn.Conv2d):
        return 0
    if isinstance(conv, nn.ConvTranspose2d) and conv.groups == 1:
        return 1
    # spconv 2 keeps weights as (outputs, kernel..., inputs); imported by name, since spconv need not be installed.
    return 0 if type(conv).__name__ in _SPARSE and type(conv).__module__.startswith('spconv') else None


class Shift(nn.Module):
    """Adds a vector to the channels of (N, C) rows: what is left of a norm behind a convolution without bias."""

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer('shift', shift)

    def forward(self, rows: Tensor) -> Tensor:
        """Returns rows + shift."""
        return rows + self.shift


@torch.no_grad()
def _fold(conv: Any, norm: _BatchNorm) -> nn.Module:
    """Changes the weights of `conv`; returns what takes the place of `norm`."""
    axis = _channels_axis(conv)
    assert axis is not None and norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias
    shape = [1] * conv.weight.dim()
    shape[axis] = -1
    conv.weight.mul_(scale.view(shape))
    shift = shift if conv.bias is None else conv.bias * scale + shift
    if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
        conv.bias = nn.Parameter(shift, requires_grad=False)
        return nn.Identity()
    # spconv refuses a bias on the CPU.
    conv.bias = None
    return Shift(shift)
