"""The compiled module `mmcv._ext` for an mmcv that was installed without its compiled ops, and errors for missing ops.

The ops of `mmcv_on_cpu.py` run on CPU tensors; every other call raises MissingOpError.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
from collections.abc import Callable
from types import ModuleType
from typing import Any

from perception3d.checks import InputError

NAME = 'mmcv._ext'
BUILD_COMMAND = 'make setup MMCV_OPS=1'

# The answer of mmcv itself where it was compiled without CUDA.
_NO_COMPILER = 'not available'
_FACTS = ('get_compiler_version', 'get_compiling_cuda_version')


class MissingOpError(InputError, RuntimeError):
    """The called op of mmcv was not compiled, or not for the device of its tensors."""


def _missing_op(name: str, device: str, state: str) -> MissingOpError:
    needs = 'g++, Python.h and nvcc' if device.startswith('cuda') else 'g++ and Python.h'
    return MissingOpError(
        f'mmcv is installed {state}, and its op {name!r} has no replacement for tensors on {device!r}: '
        f'build the ops with `{BUILD_COMMAND}` (needs {needs})'
    )


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The first device other than the CPU that an argument is on, else the CPU."""
    devices = [str(value.device) for value in (*args, *kwargs.values()) if hasattr(value, 'device')]
    return next((device for device in devices if device != 'cpu'), 'cpu')


def _replacement_op(name: str) -> Callable[..., Any]:
    """The op on CPU tensors by our kernel where there is one."""

    def op(*args: Any, **kwargs: Any) -> Any:
        # Only now, since the kernels import torch and numba.
        from perception3d.compat.mmcv_on_cpu import LIDAR_OPS, OTHER_OPS

        device = _device_of(args, kwargs)
        ours = LIDAR_OPS.get(name) or OTHER_OPS.get(name)
        if ours is None or device != 'cpu':
            raise _missing_op(name, device, 'without its compiled ops')
        return ours(*args, **kwargs)

    op.__name__ = op.__qualname__ = name
    return op


class _ExtLoader(importlib.abc.Loader):
    """Makes a module that answers for every op."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: Any) -> None:
        def __getattr__(name: str) -> Any:
            if name.startswith('__'):
                raise AttributeError(name)
            op = _replacement_op(name)
            setattr(module, name, op)
            return op

        module.is_replacement = True
        for fact in _FACTS:
            setattr(module, fact, lambda: _NO_COMPILER)
        module.__getattr__ = __getattr__


def replacement_spec(path: Any) -> importlib.machinery.ModuleSpec | None:
    """Returns the spec of a replacement of `mmcv._ext`, or None where the compiled module is installed."""
    if importlib.machinery.PathFinder.find_spec(NAME, path) is not None:
        return None
    return importlib.machinery.ModuleSpec(NAME, _ExtLoader())


def ops_are_compiled() -> bool:
    """Says whether the `mmcv._ext` of this process is mmcv's own."""
    from mmcv import _ext

    return not getattr(_ext, 'is_replacement', False)


def name_ops_without_cuda(ext: ModuleType) -> None:
    """Lets the ops of an `mmcv._ext` that was compiled without CUDA raise MissingOpError for CUDA tensors."""
    if getattr(ext, 'is_replacement', False) or ext.get_compiling_cuda_version() != _NO_COMPILER:
        return
    for name, op in vars(ext).copy().items():
        if callable(op) and not name.startswith('__') and name not in _FACTS:
            setattr(ext, name, _on_cpu_alone(name, op))


def _on_cpu_alone(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
    if hasattr(op, '__wrapped__'):
        return op

    @functools.wraps(op)
    def call(*args: Any, **kwargs: Any) -> Any:
        device = _device_of(args, kwargs)
        if device.startswith('cuda'):
            raise _missing_op(name, device, 'with ops that were compiled without CUDA')
        return op(*args, **kwargs)

    return call


def say_whether_ops_are_compiled(ext_loader: Any) -> None:
    """Lets mmcv's `check_ops_exist` look for the compiled module, which the replacement is not."""

    def check_ops_exist() -> bool:
        import mmcv

        return replacement_spec(mmcv.__path__) is None

    ext_loader.check_ops_exist = check_ops_exist
