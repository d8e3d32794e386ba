"""Reads the `key=value` strings of --cfg-options. Needs no mmengine: the first checks of a command read them too."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from perception3d.checks import InputError

ADD = '+'
"""In front of a key: the config need not have it."""


def parse_options(items: Sequence[str]) -> dict[str, Any]:
    """Parses `key=value` strings; a value is read as a Python literal where it is one, else as text.

    Raises:
        InputError: an item without '='.
    """
    options = {}
    for item in items:
        key, found, text = item.partition('=')
        if not found or not key.strip(ADD):
            raise InputError(f'--cfg-options {item!r}: expected key=value, such as train_cfg.max_epochs=2')
        try:
            options[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = {'true': True, 'false': False, 'none': None}.get(text.lower(), text)
    return options
