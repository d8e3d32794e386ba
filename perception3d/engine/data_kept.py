"""No result is written where a data set reads: into the folders of its format, or over its info files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from perception3d.checks import InputError


def outputs_of(runner: Any, metrics: Iterable[Any]) -> Iterator[Any]:
    """Yields where a runner, its hooks and these metrics write; None for what is not written."""
    yield getattr(runner, 'work_dir', None)
    for hook in getattr(runner, 'hooks', ()):
        yield getattr(hook, 'out_dir', None)
    for metric in metrics:
        yield getattr(metric, 'format_dir', None)
        # So mmdet3d's own metrics call it.
        yield getattr(metric, 'jsonfile_prefix', None)


def check_data_is_kept(outputs: Iterable[Any], datasets: Iterable[Any]) -> None:
    """Makes sure that no output lies in a folder that a data set reads.

    Args:
        outputs: files and folders to write; None stands for one that is not asked for, remote ones are left out.
        datasets: without wrappers. Those with `own_entries`, patterns of the names in their `data_root` that belong to
            the format, take part; with `results_named_as_annotations` an output may not be `data_root` either.

    Raises:
        InputError: names the output and the data set's folder.
    """
    paths = [(out, Path(os.path.realpath(out))) for out in outputs if out and '://' not in str(out)]
    for dataset in datasets:
        if not getattr(dataset, 'own_entries', ()) or not getattr(dataset, 'data_root', None):
            continue
        root = Path(os.path.realpath(dataset.data_root))
        # A folder of the data may be a link to another disk.
        taken = [path for path in _entries(root) if any(fnmatch(path.name, name) for name in dataset.own_entries)]
        for out, path in paths:
            if path == root and getattr(dataset, 'results_named_as_annotations', False):
                raise InputError(
                    f'{out} is the data_root of the data set, where results have the names of its annotations and '
                    'would overwrite them; give another folder'
                )
            for entry in taken:
                if path.is_relative_to(entry) or path.is_relative_to(os.path.realpath(entry)):
                    raise InputError(
                        f'{out} lies in {entry}, which the data set reads: results could overwrite its files; give '
                        'another folder'
                    )


def _entries(root: Path) -> list[Path]:
    return sorted(root.iterdir()) if root.is_dir() else []
