"""Package metadata. Versions that must be installed in a certain order are pinned in the Makefile and requirements/."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '([^']+)'", (ROOT / 'perception3d' / '__init__.py').read_text()).group(1)

# To export and to check what was exported; newer onnx asks for numpy 2. onnxscript is for torch's dynamo exporter.
DEPLOY = ['onnx<1.20', 'onnxruntime', 'onnxscript']

setup(
    name='perception3d',
    version=VERSION,
    description='3D perception for autonomous driving: detection, segmentation and lanes, trained, distilled and shown',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['perception3d', 'perception3d.*']),
    package_data={'perception3d': ['py.typed', 'weights/*.pth']},
    install_requires=[
        'torch>=2.6',
        'numpy<2',
        'numba',
        'scipy',
        'threadpoolctl',
        'filelock>=4.1',
        'onedl-mmengine>=0.10.12',
        'onedl-mmcv>=2.3.6',
        'onedl-mmdetection>=3.5.1',
        'mmdet3d==1.4.0',
        'nuscenes-devkit>=1.2.0',
        'tensorboard',
        'tqdm',
    ],
    extras_require={
        'lidar': ['spconv==2.3.8'],
        'viz': ['open3d'],
        'deploy': DEPLOY,
        # The old name of deploy.
        'onnx': DEPLOY,
        'dev': ['mypy==2.4.1', 'pytest', 'ruff'],
    },
    classifiers=[
        'Programming Language :: Python :: 3',
        'License :: OSI Approved :: Apache Software License',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
