"""What a package gives by name without importing it first: `from perception3d.models import FastBEV` (PEP 562).

The names are read from the sources, so that there is no list to edit, and importing a package stays quick.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# A class or function at the left margin, with the decorators above it.
_DEFINITION = re.compile(r'^((?:@.*\n)*)(?:class|def) ([A-Za-z]\w*)', re.MULTILINE)


def given_names(
    package: str, homes: Callable[[], Mapping[str, str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` for the module `package`.

    Args:
        package: its `__name__`.
        homes: gives name -> module; called when a name is asked for that Python does not find.
    """

    def find(name: str) -> Any:
        # Python asks for names of its own, such as __path__, and for modules before it imports them.
        home = None if name.startswith('_') or _is_module(package, name) else homes().get(name)
        if home is None:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(importlib.import_module(home), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes()})

    return find, listed


def registered_names(package: str, *modules: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` that give the classes and functions which the modules below register.

    Args:
        package: its `__name__`.
        modules: names of modules, or of packages of them, below `package`: all their public classes and functions too.
    """
    return given_names(package, functools.cache(lambda: _read_names(package, modules)))


def _is_module(package: str, name: str) -> bool:
    place = _folder(package) / name
    return place.is_dir() or place.with_suffix('.py').is_file()


def _folder(package: str) -> Path:
    return Path(sys.modules[package].__path__[0])


def _read_names(package: str, modules: tuple[str, ...]) -> dict[str, str]:
    """Returns name -> module of all that a package gives.

    Raises:
        ValueError: two modules define one name.
    """
    folder = _folder(package)
    found: dict[str, str] = {}
    for path in sorted(folder.rglob('*.py')):
        parts = path.relative_to(folder).with_suffix('').parts
        module = '.'.join([package, *(parts[:-1] if parts[-1] == '__init__' else parts)])
        for decorators, name in _DEFINITION.findall(path.read_text(encoding='utf-8')):
            if '.register_module(' in decorators or parts[0] in modules:
                if name in found:
                    raise ValueError(f'{name} is defined in {found[name]} and in {module}')
                found[name] = module
    return found
