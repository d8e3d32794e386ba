"""Files of checkpoints, before they are loaded: where they are and what kind of file they are. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from perception3d.checks import InputError, nearest_names, require_file

DEMO = 'demo'
"""Names the packaged weights where the package loads weights, and as `load_from` of a config."""
_DEMO_FILE = Path(__file__).parent / 'weights' / 'fast_bev_tiny_96x352_sim.pth'
_HEAD_BYTES = 4096
# What is often found under the name of a checkpoint, by the first bytes of the file, and what to do then.
_KINDS = (
    (b'version https://git-lfs', 'a pointer of Git LFS', 'get the file itself with `git lfs pull`'),
    (b'<!doctype html', 'a web page', 'download the file itself: open the link in a browser to see what it asks for'),
    (b'<html', 'a web page', 'download the file itself: open the link in a browser to see what it asks for'),
    (b'\x1f\x8b', 'a gzip archive', 'unpack it, and give the .pth file'),
    (b'\x89hdf', 'an HDF5 file', 'give a .pth file of torch'),
    (b'\x89png', 'a picture', 'give a .pth file of torch'),
)
_MAKES_CHECKPOINTS = 'give a .pth file, which tools/train.py writes into its work folder'


def demo_checkpoint() -> Path:
    """Returns the packaged weights of `configs/fast_bev/fast_bev_tiny_96x352_6e_sim.py`, trained on the built-in world.

    They also fit `fast_bev_tiny_96x352_9e_sim.py`, the same network with a longer schedule. `python tools/demo.py
    --weights` makes them.
    """
    return require_file(_DEMO_FILE, 'it is part of the package: install perception3d again')


def checkpoint_path(path: str | Path) -> str | Path:
    """Returns `path`, or the file that 'demo' stands for where no file has that name."""
    return demo_checkpoint() if str(path) == DEMO and not Path(path).is_file() else path


def require_checkpoint(path: str | Path, hint: str = '') -> Path:
    """Returns the file of a checkpoint: `path`, or the packaged one for 'demo'.

    Args:
        hint: what to do where there is no such file; by default what a checkpoint is, and similar names in its folder.

    Raises:
        InputError: there is no such file, or it is a text, a web page or another kind of file: says which.
    """
    found = require_file(checkpoint_path(path), hint or _hint(Path(path)))
    with open(found, 'rb') as opened:
        head = opened.read(_HEAD_BYTES)
    for start, kind, advice in _KINDS:
        if head.lower().startswith(start):
            raise InputError(f'checkpoint {path} is {kind}, not a checkpoint: {advice}')
    if not head:
        raise InputError(f'checkpoint {path} is an empty file: copy or download it again')
    if _is_text(head):
        raise InputError(f'checkpoint {path} is a text file, not a checkpoint: {_MAKES_CHECKPOINTS}')
    return found


def _hint(path: Path) -> str:
    """Names the checkpoints that are there, in place of a missing `path`."""
    default = f'give the path of a .pth file, or {DEMO} for the packaged one'
    if path.is_dir():
        inside = sorted(file.name for file in path.glob('*.pth'))
        return f'give one of its files, such as {path / inside[-1]}' if inside else default
    if not path.parent.is_dir():
        return f'there is no folder {path.parent} either: {default}'
    close = nearest_names(path.name, (file.name for file in path.parent.glob('*.pth')))
    return f'did you mean {" or ".join(str(path.parent / name) for name in close)}?' if close else default


def _is_text(head: bytes) -> bool:
    # The last letter of the part may be cut. Pickles of old checkpoints begin with bytes that no text has.
    text = head.decode('utf-8', 'ignore')
    whole = len(text.encode()) >= len(head) - 3
    return whole and all(letter.isprintable() or letter in '\t\r\n\f\ufeff' for letter in text)
