"""The folder that a metric writes result or submission files into: `format_dir`, in all metrics."""

from __future__ import annotations

from perception3d.checks import InputError
from perception3d.outputs import check_outputs


def require_format_dir(format_dir: str | None, format_only: bool, **older: str | None) -> str | None:
    """Returns the folder that a metric was given, by its name or by an older name of that metric; None without one.

    Raises:
        InputError: it was given twice; `format_only` without it; or it cannot be written.
    """
    given = [folder for folder in (format_dir, *older.values()) if folder is not None]
    if len(given) > 1:
        raise InputError(f'{", ".join(older)} is an older name of format_dir: give format_dir alone')
    if format_only and not given:
        raise InputError('format_only needs format_dir, the folder for the result files')
    check_outputs(folders=given)
    return given[0] if given else None
