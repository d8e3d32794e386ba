"""What all metrics share that write result or submission files: the folder `format_dir`, and frames that are unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mmengine.evaluator import BaseMetric

from perception3d.checks import InputError
from perception3d.outputs import check_outputs


class SubmissionMetric(BaseMetric):
    """Base of metrics that write result files; `--format-only` asks for them alone.

    Args:
        format_dir: Result files are written there; nowhere if None.
        format_only: Write result files, score nothing; the frames need no labels.
        collect_device, prefix: As of mmengine's BaseMetric.

    Raises:
        InputError: `format_only` without `format_dir`, or a folder that cannot be written.
    """

    def __init__(
        self,
        format_dir: str | None = None,
        format_only: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if format_only and format_dir is None:
            raise InputError('format_only needs format_dir, the folder for the result files')
        check_outputs(folders=[format_dir])
        self.format_dir = format_dir
        self.format_only = format_only


def folder_by_any_name(format_dir: str | None, **older: str | None) -> str | None:
    """Returns the folder that a metric was given, by its name or by an older name of that metric; None without one.

    Raises:
        InputError: it was given twice.
    """
    given = [folder for folder in (format_dir, *older.values()) if folder is not None]
    if len(given) > 1:
        raise InputError(f'{", ".join(older)} is an older name of format_dir: give format_dir alone')
    return given[0] if given else None


def require_unique(names: Iterable[str], kind: str, rule: str = 'frame ids must be unique') -> None:
    """Raises InputError if a name was predicted more than once: files of one name would overwrite each other.

    Args:
        names: of the tested frames.
        kind: what they name, such as 'frame'.
        rule: what is expected, for the error.
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(f'{kind} {", ".join(twice[:3])} was predicted more than once: {rule}')
