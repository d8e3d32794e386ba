"""What this package needs, what is installed, and how to install the rest. Imports no required package at the top."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import sys
from dataclasses import dataclass

from perception3d.compat.imports import HEADLESS

# Built in pip's isolated environment, which has no torch, mmcv becomes a wheel without compiled ops, in seconds. pip's
# cache is not used: it may have a wheel with ops for another torch.
_MMCV = 'pip install --no-deps --no-cache-dir onedl-mmcv==2.3.6'

_ABSENT = 'not installed'


@dataclass(frozen=True)
class Part:
    """A package: its import name, its distribution, whether it is needed, and the command that installs it."""

    module: str
    distribution: str
    needed: bool
    fix: str
    rejects: str = ''


PARTS = (
    Part('torch', 'torch', True, 'pip install torch==2.13.0'),
    Part('numpy', 'numpy', True, 'pip install "numpy<2"', rejects='2.'),
    Part('mmcv', 'onedl-mmcv', True, _MMCV),
    Part('mmengine', 'onedl-mmengine', True, 'pip install onedl-mmengine==0.10.12'),
    Part('mmdet', 'onedl-mmdetection', True, 'pip install --no-build-isolation onedl-mmdetection==3.5.1'),
    Part('mmdet3d', 'mmdet3d', True, 'pip install --no-build-isolation mmdet3d==1.4.0'),
    Part('nuscenes', 'nuscenes-devkit', True, 'pip install nuscenes-devkit==1.2.0'),
    Part('numba', 'numba', True, 'pip install numba'),
    Part('scipy', 'scipy', True, 'pip install scipy'),
    Part('cv2', 'opencv-python-headless', True, HEADLESS),
    Part('tensorboard', 'tensorboard', False, 'pip install tensorboard'),
    Part('spconv', 'spconv', False, 'pip install spconv==2.3.8   (CUDA: spconv-cu12x)'),
    Part('open3d', 'open3d', False, 'pip install open3d'),
    Part('onnx', 'onnx', False, 'pip install "onnx<1.20"'),
    Part('onnxruntime', 'onnxruntime', False, 'pip install onnxruntime'),
    Part('onnxscript', 'onnxscript', False, 'pip install onnxscript'),
    Part('pytest', 'pytest', False, 'pip install pytest'),
    Part('ruff', 'ruff', False, 'pip install ruff'),
)

# The message of the dynamic linker when a system library is missing, and the package of Debian and Ubuntu that has it.
_LIBRARIES = {
    'libgthread': 'libglib2.0-0',
    'libusb-1.0': 'libusb-1.0-0',
    'libX11.so.6': 'libx11-6',
    'libgomp': 'libgomp1',
}


def check_environment(quiet: bool = False) -> int:
    """Prints a table of the parts and returns 1 if one that is needed is missing or broken, else 0."""
    from perception3d import __version__

    if not quiet:
        print(f'perception3d {__version__}, Python {platform.python_version()}, {platform.platform()}')
    broken = 0
    for part in PARTS:
        version, problem = _inspect(part)
        state = 'ok' if not problem else ('MISSING' if part.needed else 'optional, missing')
        broken += bool(problem) and part.needed
        if problem and (part.needed or not quiet):
            print(f'{part.distribution:24} {version:16} {state}: {problem}\n{"":24} fix: {_fix(part, problem)}')
        elif not quiet:
            print(f'{part.distribution:24} {version:16} {state}')
    if not broken and not quiet:
        print(_ops_line())
        print(_device_line())
    return int(broken > 0)


def _inspect(part: Part) -> tuple[str, str]:
    """Returns the version of a part and what is wrong with it ('' if nothing)."""
    try:
        version = importlib.metadata.version(part.distribution)
    except importlib.metadata.PackageNotFoundError:
        return '-', _ABSENT
    if part.rejects and version.startswith(part.rejects):
        return version, f'version {version} does not work here'
    try:
        # open3d is not imported: it loads half a gigabyte of libraries.
        if part.module != 'open3d':
            importlib.import_module('mmcv.ops' if part.module == 'mmcv' else part.module)
    except Exception as error:
        return version, f'{type(error).__name__}: {(str(error).splitlines() or ["no message"])[0]}'
    return version, ''


def _fix(part: Part, problem: str) -> str:
    if 'libGL.so' in problem:
        return HEADLESS
    library = next((package for name, package in _LIBRARIES.items() if name in problem), None)
    if library:
        return f'apt-get install -y {library}'
    absent = re.search(r"No module named '(\w+)'", problem)
    if absent and absent.group(1) != part.module:
        return f'pip install {absent.group(1)}'
    if part.module == 'mmcv' and problem != _ABSENT:
        # Such as ops that were compiled for another torch: pip would report that the version is installed.
        return part.fix.replace('install', 'install --force-reinstall')
    return part.fix


def _ops_line() -> str:
    """Returns whether mmcv's ops are compiled, and the command that compiles them."""
    from mmcv import _ext

    from perception3d.compat.mmcv_ext import BUILD_COMMAND, ops_are_compiled

    if not ops_are_compiled():
        return (
            'ops of mmcv: not compiled; this package has those that its models need on a CPU: 2D and rotated NMS, IoU, '
            'modulated deformable convolution, voxels, points in boxes, neighbours and pooling of points\n'
            f'{"":24} fix, for a GPU or for other ops: {BUILD_COMMAND}'
        )
    cuda = _ext.get_compiling_cuda_version()
    if cuda == 'not available':
        needs = f'\n{"":24} fix, for a GPU: {BUILD_COMMAND} (needs nvcc)'
        return f'ops of mmcv: compiled for the CPU only, {_ext.get_compiler_version()}{needs}'
    return f'ops of mmcv: compiled with CUDA {cuda}, {_ext.get_compiler_version()}'


def _device_line() -> str:
    import torch

    if torch.cuda.is_available():
        return f'device: {torch.cuda.get_device_name()} (CUDA {torch.version.cuda})'
    from perception3d.geometry.devices import has_bfloat16

    bf16 = has_bfloat16(torch.device('cpu'))
    return (
        f'device: CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, '
        f'bf16 {"in hardware: --amp is worth it" if bf16 else "only emulated: leave --amp out"}'
        f'{"" if sys.platform.startswith("linux") else " (tested on Linux only)"}'
    )
