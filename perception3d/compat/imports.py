"""Fixes of what upstream packages check and print while they are imported."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from perception3d.checks import InputError

HEADLESS = 'pip install --force-reinstall --no-deps opencv-python-headless==4.11.0.86'
"""Installs the files of OpenCV that need no libGL over those that do."""


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


class MissingLibraryError(InputError, ImportError):
    """A package is installed, but not a library of the system that it links to."""


@contextmanager
def without_libgl() -> Iterator[None]:
    """Says what to do where OpenCV does not load for want of libGL.

    mmcv asks for opencv-python and nuscenes-devkit for opencv-python-headless, which write the same files: pip installs
    both, in an order that no dependency can change.

    Raises:
        MissingLibraryError: the package with windows was the last one, and the system has no libGL.
    """
    try:
        yield
    except ImportError as error:
        if 'libGL.so' not in str(error):
            raise
        raise MissingLibraryError(
            f'OpenCV does not load ({error}): it is installed with windows, which need libGL; run: {HEADLESS}'
        ) from error


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
