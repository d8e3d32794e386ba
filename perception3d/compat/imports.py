"""Fixes of what upstream packages check and print while they are imported."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def versions_that_mmdet3d_accepts() -> Iterator[None]:
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
def without_the_onedl_lines() -> Iterator[None]:
    """Passes on what an import prints, but for one line."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if 'Could not import OneDL' not in line:
                print(line)
