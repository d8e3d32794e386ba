"""The pairs of voxels that spconv's convolutions multiply, from what its layers and tensors keep."""

from __future__ import annotations

from typing import Any

from torch import nn


def sparse_convolutions(model: nn.Module) -> list[nn.Module]:
    """Returns the sparse convolutions in a model: only spconv's layers name their pairs; poolings have no channels."""
    return [part for part in model.modules() if hasattr(part, 'indice_key') and hasattr(part, 'in_channels')]


def count_pairs(convolution: Any, output: Any) -> int | None:
    """Returns how many pairs of voxels a sparse convolution multiplied, from its output.

    None where spconv convolved without a list of pairs: its implicit GEMM, on a GPU.
    """
    if convolution.kernel_size == [1] * convolution.ndim:
        return len(output.indices)
    data = output.find_indice_pair(convolution.indice_key)
    counts = getattr(data, 'indice_pair_num', None)
    if counts is None:
        return None
    if data.is_subm:
        # Only half of the offsets are listed: the others mirror them, and the middle one pairs all.
        return 2 * int(counts[: len(counts) // 2].sum()) + len(output.indices)
    return int(counts.sum())
