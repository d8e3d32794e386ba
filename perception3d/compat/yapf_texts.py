"""Fixes of yapf, with which mmengine formats the text of a config: its time, and its cache in the home folder."""

from __future__ import annotations

import functools
from typing import Any


def remember_formatted_texts(yapf_api: Any) -> None:
    """Lets yapf's FormatCode cache the last texts that it has formatted."""
    format_code = yapf_api.FormatCode
    if hasattr(format_code, 'original'):
        return
    known: dict[str, Any] = {}

    def FormatCode(text: str, *args: Any, **kwargs: Any) -> Any:
        key = repr((text, args, sorted(kwargs.items())))
        if key not in known:
            if len(known) >= 8:
                known.pop(next(iter(known)))
            known[key] = format_code(text, *args, **kwargs)
        return known[key]

    marked: Any = FormatCode
    marked.original = format_code
    yapf_api.FormatCode = marked


def read_grammars_that_are_whole(driver: Any) -> None:
    """Lets yapf make the tables of its grammar again where the cached file is not whole.

    yapf 0.43 renames the file before its last bytes are written. With a new installation, two processes that start at
    the same time (torchrun, pytest-xdist) both write it, and one may read half of it; a full disk leaves half of it.
    """
    load_grammar = driver.load_grammar
    if hasattr(load_grammar, '__wrapped__'):
        return

    @functools.wraps(load_grammar)
    def load(*args: Any, **kwargs: Any) -> Any:
        try:
            return load_grammar(*args, **kwargs)
        except Exception:
            # A pickle that is cut raises various errors. What is no fault of the cache is raised again here.
            return load_grammar(*args, **{**kwargs, 'force': True})

    driver.load_grammar = load
