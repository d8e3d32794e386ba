"""Fix of spconv's sparse convolutions on the CPU."""

from __future__ import annotations

from typing import Any


def convolve_on_the_cpu(spconv_ops: Any) -> None:
    """Sends spconv's convolutions of CPU tensors, their gradients and their lists of pairs to our own."""
    forward, backward = spconv_ops.indice_conv, spconv_ops.indice_conv_backward
    list_pairs = spconv_ops.get_indice_pairs
    if hasattr(forward, 'of_device'):
        return

    def indice_conv(
        features: Any, filters: Any, pairs: Any, counts: Any, num_out: int, inverse: bool = False, subm: bool = False,
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        # A bias or an activation in the same call goes to spconv, which refuses it on the CPU.
        fused = kwargs.get('bias') is not None or getattr(kwargs.get('act_type'), 'name', 'None_') != 'None_'
        if features.is_cuda or fused:
            return forward(features, filters, pairs, counts, num_out, inverse, subm, *args, **kwargs)
        from perception3d.ops.sparse_conv import sparse_conv

        return sparse_conv(features, filters, pairs, counts, num_out, inverse, subm)

    def indice_conv_backward(
        features: Any, filters: Any, grad: Any, pairs: Any, counts: Any, inverse: bool = False, subm: bool = False,
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        if features.is_cuda:
            return backward(features, filters, grad, pairs, counts, inverse, subm, *args, **kwargs)
        from perception3d.ops.sparse_conv import sparse_conv_backward

        return sparse_conv_backward(features, filters, grad, pairs, counts, inverse, subm)

    def get_indice_pairs(
        indices: Any, batch_size: int, shape: Any, algo: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
        out_padding: Any, subm: bool = False, transpose: bool = False, *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        if indices.is_cuda or transpose or len(shape) != 3:
            rest = (out_padding, subm, transpose, *args)
            return list_pairs(indices, batch_size, shape, algo, kernel, stride, padding, dilation, *rest, **kwargs)
        from perception3d.ops.sparse_pairs import strided_pairs, submanifold_pairs

        if subm:
            return indices, *submanifold_pairs(indices, shape, kernel, dilation)
        return strided_pairs(indices, shape, kernel, stride, padding, dilation)

    marked_conv: Any = indice_conv
    marked_pairs: Any = get_indice_pairs
    marked_conv.of_device, marked_pairs.of_device = forward, list_pairs
    spconv_ops.indice_conv, spconv_ops.indice_conv_backward = marked_conv, indice_conv_backward
    spconv_ops.get_indice_pairs = marked_pairs
