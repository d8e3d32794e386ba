"""Which build of spconv is installed, and which one a GPU needs."""

from __future__ import annotations

from typing import Any

from perception3d.checks import InputError

# Wheels on PyPI by CUDA version, spconv 2.3.8 (2.3.6 for those up to 12.0).
_WHEELS = ((11, 4), (11, 7), (11, 8), (12, 0), (12, 1), (12, 4), (12, 6))


def require_spconv_for(device: Any) -> None:
    """Raises InputError where tensors are on a GPU and the installed spconv is the one for CPUs."""
    if device.type == 'cpu' or device.type == 'meta':
        return
    import torch
    from spconv.cppconstants import CPU_ONLY_BUILD

    require_build(device.type, bool(CPU_ONLY_BUILD), torch.version.cuda)


def require_build(device_type: str, is_cpu_build: bool, cuda_version: str | None) -> None:
    """Raises InputError with the pip command for the build that is needed, where the installed one cannot run.

    Args:
        device_type: where the tensors are, such as 'cuda'.
        is_cpu_build: whether the installed spconv has kernels for CPUs alone.
        cuda_version: of the installed torch, such as '12.4'; None for a torch without CUDA.
    """
    if device_type == 'cpu' or not is_cpu_build:
        return
    wheel = _wheel(cuda_version)
    raise InputError(
        f'tensors are on {device_type}, but the installed spconv is the build for CPUs: run "pip uninstall -y spconv '
        f'cumm && pip install {wheel}", or train on the CPU (CUDA_VISIBLE_DEVICES= )'
    )


def _wheel(cuda_version: str | None) -> str:
    """Name of the newest wheel for a CUDA of the same major version that is not newer, else of the newest of all."""
    version = tuple(int(part) for part in (cuda_version or '').split('.')[:2] if part.isdigit())
    fitting = [wheel for wheel in _WHEELS if version and wheel[0] == version[0] and wheel <= version]
    major, minor = fitting[-1] if fitting else _WHEELS[-1]
    return f'spconv-cu{major}{minor}'
