"""The compiled module `mmcv._ext` for an mmcv that was installed without its compiled ops."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = 'mmcv._ext'
BUILD_COMMAND = 'make setup MMCV_OPS=1'

_NOT_COMPILED = 'not compiled'


class MissingOpError(RuntimeError):
    """An op of mmcv was called that needs mmcv's compiled ops, which are not installed."""


def _missing_op(name: str) -> Callable[..., Any]:
    def op(*args: Any, **kwargs: Any) -> Any:
        raise MissingOpError(
            f'mmcv is installed without its compiled ops, and there is no replacement for its op {name!r}: '
            f'build the ops with `{BUILD_COMMAND}` (needs g++ and Python.h; CUDA ops need nvcc)'
        )

    op.__name__ = op.__qualname__ = name
    return op


class _ExtLoader(importlib.abc.Loader):
    """Makes a module that answers for every op."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def __getattr__(name: str) -> Any:
            if name.startswith('__'):
                raise AttributeError(name)
            return _missing_op(name)

        module.is_replacement = True
        module.get_compiling_cuda_version = module.get_compiler_version = lambda: _NOT_COMPILED
        module.__getattr__ = __getattr__


def replacement_spec(path: Any) -> importlib.machinery.ModuleSpec | None:
    """Returns the spec of a replacement of `mmcv._ext`, or None where the compiled module is installed."""
    if importlib.machinery.PathFinder.find_spec(NAME, path) is not None:
        return None
    return importlib.machinery.ModuleSpec(NAME, _ExtLoader())
