"""The checkpoints in the folder of a training: the newest one, and which of them another training replaces."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from perception3d.checkpoints import RESUMABLE, load_checkpoint_safely
from perception3d.files import write_durably

POINTER = 'last_checkpoint'
"""The file that names the newest checkpoint."""
_USUAL_NAME = re.compile(r'(epoch|iter)_\d+\.pth|best_.+\.pth')
# As write_whole names them.
_UNFINISHED = re.compile(r'\.(.+-\w{8,12}\.pth|last_checkpoint-\w{8,12})')


def write_pointer(folder: str | Path, checkpoint: str | Path | None) -> None:
    """Writes `folder`/last_checkpoint: the path of `checkpoint` relative to the folder.

    An empty file (None) means that a training has begun there and has not saved a checkpoint yet.
    """
    with write_durably(Path(folder) / POINTER) as temporary:
        temporary.write_text('' if checkpoint is None else os.path.relpath(checkpoint, folder), encoding='utf-8')


def pointed_checkpoint(folder: str | Path) -> Path | None:
    """Returns the checkpoint that `folder`/last_checkpoint names, if it exists; its content is not read.

    Of an absolute path, as mmengine writes, the name alone counts: the folder may be a copy, or have been renamed.
    """
    folder = Path(folder)
    try:
        name = (folder / POINTER).read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError):
        return None
    path = folder / (Path(name).name if os.path.isabs(name) else name)
    return path if name and path.is_file() else None


def latest_checkpoint(folder: str | Path, report: Callable[[str], None] = lambda line: None) -> Path | None:
    """Returns the newest complete checkpoint of `folder` from which a training can be resumed, None if there is none.

    It is the one that last_checkpoint names. Where that is lost or damaged, it is the one that is furthest in the
    training.

    Args:
        report: called with a line where last_checkpoint did not help.
    """
    folder = Path(folder)
    pointer = folder / POINTER
    if pointer.is_file() and not pointer.read_bytes().strip():
        return None
    pointed = pointed_checkpoint(folder)
    if pointed is not None and _progress(pointed):
        return pointed
    read = {path: _progress(path) for path in training_checkpoints(folder) if path != pointed}
    others = {path: progress for path, progress in read.items() if progress}
    if not others:
        return None
    newest = max(others, key=lambda path: others[path])
    what = f'{pointed.name} is damaged' if pointed else f'{POINTER} is missing or names a file that is not there'
    report(f'{folder}: {what}; the newest complete checkpoint is {newest.name}')
    return newest


def training_checkpoints(folder: str | Path) -> list[Path]:
    """Returns what trainings have left in `folder`, whether it can be resumed or not.

    These are epoch_N.pth, iter_N.pth, best_*.pth, what last_checkpoint names, and every other .pth file from which a
    training can be resumed: a config may give checkpoints names of its own.
    """
    folder = Path(folder)
    pointed = pointed_checkpoint(folder)
    files = {path for path in folder.glob('*.pth') if path.is_file() and (_has_usual_name(path) or _progress(path))}
    return sorted(files | ({pointed} if pointed else set()))


def _has_usual_name(path: Path) -> bool:
    return bool(_USUAL_NAME.fullmatch(path.name))


def removable_checkpoints(folder: str | Path, template: str = '') -> list[Path]:
    """Returns the part of `training_checkpoints` whose names a training gives; copies under other names are kept.

    Args:
        template: `filename_tmpl` of the config.
    """
    name = '.+'.join(map(re.escape, re.split(r'\{[^}]*\}', template)))
    pointed = pointed_checkpoint(folder)
    return [
        path
        for path in training_checkpoints(folder)
        if _has_usual_name(path) or path == pointed or re.fullmatch(name, path.name)
    ]


def checkpoints_after(checkpoint: Path, others: Sequence[Path]) -> list[Path]:
    """Returns those of `others` that are further in the training than `checkpoint`, the furthest last."""
    here = _progress(checkpoint)
    places = {path: _progress(path, needed=('meta',)) for path in others if path.resolve() != checkpoint.resolve()}
    after = {path: place for path, place in places.items() if here and place and place > here}
    return sorted(after, key=lambda path: after[path])


def remove_unfinished(folder: str | Path) -> None:
    """Removes the temporary files of checkpoints that a killed training has left in `folder`; see `write_whole`."""
    for path in Path(folder).glob('.*'):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _progress(path: Path, needed: Sequence[str] = RESUMABLE) -> tuple[int, int] | None:
    """How far the training of a checkpoint is: epoch, then samples or iterations; None: damaged or without `needed`."""
    try:
        content = load_checkpoint_safely(path, map_location='meta')
        if any(name not in content for name in needed):
            return None
        meta = content['meta']
        return int(meta['epoch']), int(meta.get('place', {}).get('samples', meta['iter']))
    except Exception:
        # With damaged bytes torch's unpickler raises errors of any type.
        return None
