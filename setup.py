"""What pyproject.toml cannot say: the folder configs next to the package is perception3d.configs in the wheel."""

from __future__ import annotations

from setuptools import find_namespace_packages, find_packages, setup

CONFIGS = [f'perception3d.{name}' for name in find_namespace_packages(include=['configs', 'configs.*'])]

setup(
    packages=[*find_packages(include=['perception3d', 'perception3d.*']), *CONFIGS],
    package_dir={'perception3d.configs': 'configs'},
    package_data={'perception3d': ['py.typed', 'weights/*.pth']},
    include_package_data=False,
)
