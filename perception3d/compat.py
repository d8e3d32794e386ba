"""Every fix that a host package needs on current torch: what, why, and the test that tells when it can go.

Nothing heavy is imported here. A fix waits for its host module to be imported and is applied at that moment.

1. mmdet3d 1.4.0 asserts mmcv < 2.2 and mmdet < 3.4, while the maintained forks are 2.3.6 and 3.5.1: its import check is
   shown 2.1.0 and 3.3.0. Can go when `test_mmdet3d_still_asserts_versions` fails.
2. mmengine's fork falls back to running the pickle of a checkpoint that the safe loader refuses, and its allow-list
   holds getattr: our loader takes its place, which refuses. Can go when `test_mmengine_still_runs_pickles` fails.
3. mmdet's fork prints twice, on every start, that a data set that nobody asked for is not installed: the line is left
   out. Can go when `test_mmdet_still_prints` fails.
4. spconv's loops on the CPU lose additions when torch has several threads (a strided convolution was off by its own
   size), and its backward asks CUDA for a stream also for CPU tensors: those go to `geometry/sparse_conv.py` and
   `sparse_pairs.py`. Can go when spconv equals a dense convolution with many threads; what is lost depends on timing,
   so no test can tell.
5. mmengine formats the text of a config with yapf (1 to 3 s) for the log, for the file beside it and for every
   checkpoint: yapf remembers the last texts. Can go when `test_mmengine_still_formats_anew` fails.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any


@contextmanager
def _versions_that_mmdet3d_accepts() -> Iterator[None]:
    """Shows mmdet3d the newest versions that it was released for, for the length of its own import check."""
    import mmcv
    import mmdet

    true_versions = mmcv.__version__, mmdet.__version__
    mmcv.__version__, mmdet.__version__ = '2.1.0', '3.3.0'
    try:
        yield
    finally:
        mmcv.__version__, mmdet.__version__ = true_versions


@contextmanager
def _without_the_onedl_lines() -> Iterator[None]:
    """Passes on what an import prints, but for one line."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if 'Could not import OneDL' not in line:
                print(line)


def _safe_globals(mmengine_checkpoint: ModuleType) -> list[Any]:
    """Lists what a checkpoint of mmengine may hold beside tensors.

    The log of a run holds methods of HistoryBuffer, which pickle writes as getattr(HistoryBuffer, name); getattr at
    large reaches any code, so that this one form of it takes its place.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    def getattr_of_history_buffer(owner: Any, name: str) -> Any:
        if owner is HistoryBuffer and not name.startswith('_'):
            return getattr(HistoryBuffer, name)
        raise pickle.UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r}) was not allowed')

    numbers = [type(np.dtype(t)) for t in (np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_)]
    listed = [item for item in mmengine_checkpoint.get_torch_safe_globals() if item is not getattr]
    return [*listed, *numbers, (getattr_of_history_buffer, 'builtins.getattr')]


def _load_checkpoints_safely(mmengine_checkpoint: ModuleType) -> None:
    """Replaces mmengine's loader, which runs a pickle that the safe loader refuses, by one that refuses it too."""

    def safe_torch_load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        from perception3d.checkpoints import torch_load_safely

        return torch_load_safely(file, map_location, _safe_globals(mmengine_checkpoint))

    mmengine_checkpoint._safe_torch_load = safe_torch_load


def _convolve_on_the_host(spconv_ops: ModuleType) -> None:
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
        from perception3d.geometry.sparse_conv import sparse_conv

        return sparse_conv(features, filters, pairs, counts, num_out, inverse, subm)

    def indice_conv_backward(
        features: Any, filters: Any, grad: Any, pairs: Any, counts: Any, inverse: bool = False, subm: bool = False,
        *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        if features.is_cuda:
            return backward(features, filters, grad, pairs, counts, inverse, subm, *args, **kwargs)
        from perception3d.geometry.sparse_conv import sparse_conv_backward

        return sparse_conv_backward(features, filters, grad, pairs, counts, inverse, subm)

    def get_indice_pairs(
        indices: Any, batch_size: int, shape: Any, algo: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
        out_padding: Any, subm: bool = False, transpose: bool = False, *args: Any, **kwargs: Any,
    ) -> Any:  # fmt: skip
        if indices.is_cuda or transpose or len(shape) != 3:
            rest = (out_padding, subm, transpose, *args)
            return list_pairs(indices, batch_size, shape, algo, kernel, stride, padding, dilation, *rest, **kwargs)
        from perception3d.geometry.sparse_pairs import strided_pairs, submanifold_pairs

        if subm:
            return indices, *submanifold_pairs(indices, shape, kernel, dilation)
        return strided_pairs(indices, shape, kernel, stride, padding, dilation)

    indice_conv.of_device, get_indice_pairs.of_device = forward, list_pairs
    spconv_ops.indice_conv, spconv_ops.indice_conv_backward = indice_conv, indice_conv_backward
    spconv_ops.get_indice_pairs = get_indice_pairs


def _remember_formatted_texts(yapf_api: ModuleType) -> None:
    """Lets yapf's FormatCode answer at once for a text that it has formatted before."""
    form = yapf_api.FormatCode
    if hasattr(form, 'forms'):
        return
    known: dict[str, Any] = {}

    def FormatCode(text: str, *args: Any, **kwargs: Any) -> Any:
        key = repr((text, args, sorted(kwargs.items())))
        if key not in known:
            if len(known) >= 8:
                known.pop(next(iter(known)))
            known[key] = form(text, *args, **kwargs)
        return known[key]

    FormatCode.forms = form
    yapf_api.FormatCode = FormatCode


_AROUND: dict[str, Callable[[], Any]] = {
    'mmdet3d': _versions_that_mmdet3d_accepts,
    'mmdet.datasets': _without_the_onedl_lines,
}
_AFTER: dict[str, Callable[[ModuleType], None]] = {
    'mmengine.runner.checkpoint': _load_checkpoints_safely,
    'spconv.pytorch.ops': _convolve_on_the_host,
    'yapf.yapflib.yapf_api': _remember_formatted_texts,
}


class _PatchedLoader(importlib.abc.Loader):
    """Runs a module's own loader with the fix around or after it."""

    def __init__(self, name: str, loader: importlib.abc.Loader) -> None:
        self.name = name
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self.name in _AROUND:
            with _AROUND[self.name]():
                self.loader.exec_module(module)
        else:
            self.loader.exec_module(module)
        if self.name in _AFTER:
            _AFTER[self.name](module)

    def __getattr__(self, name: str) -> Any:
        # Tools such as inspect and pkgutil ask a loader for its source, its path and its resources.
        return getattr(self.loader, name)


class _PatchFinder(importlib.abc.MetaPathFinder):
    """Finds only the modules that need a fix, and finds them where they would have been found anyway."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _AROUND and fullname not in _AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchedLoader(fullname, spec.loader)
        return spec


def apply() -> None:
    """Installs the fixes. Cheap, and harmless when called again; importing perception3d calls it."""
    if not any(isinstance(finder, _PatchFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchFinder())
    for name, fix in _AFTER.items():
        if name in sys.modules:
            fix(sys.modules[name])
