"""How the kernels are compiled: once, cached on disk, and again when any source file that they call has changed.

Numba keeps a compiled function until its own file changes, even if it calls a function of another file that has
changed. The folder of our cache is therefore named after the content of all kernel sources.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit

# Any: numba sets its settings when it is imported, a type checker sees none of them.
config: Any = numba.config

_SOURCES = Path(__file__).parent


def _cache_folder() -> str:
    content = hashlib.md5(usedforsecurity=False)
    for path in sorted(_SOURCES.glob('*.py')):
        content.update(path.read_bytes())
    home = _SOURCES / '__pycache__'
    writable = os.access(home if home.is_dir() else _SOURCES, os.W_OK)
    # If the package is read-only, numba's own choice is used: a folder of the user.
    return str(home / f'kernels-{content.hexdigest()[:12]}') if writable else config.CACHE_DIR


_FOLDER = _cache_folder()


def kernel(**options: Any) -> Callable[[Callable], Callable]:
    """Returns a decorator that compiles with numba (cached, numpy's division rules) and the given options."""

    def compiled(function: Callable) -> Callable:
        before = config.CACHE_DIR
        config.CACHE_DIR = _FOLDER
        try:
            return njit(cache=True, error_model='numpy', **options)(function)
        finally:
            config.CACHE_DIR = before

    return compiled
