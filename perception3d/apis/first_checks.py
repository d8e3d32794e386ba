"""What a command refuses at once: wrong paths and wrong kinds of files, before torch and mmdet3d are imported.

The imports of those take seconds. Nothing here may import them before the paths are checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perception3d.apis.config_data_root import data_root_of, format_of
from perception3d.apis.config_names import find_config, find_experiment
from perception3d.apis.config_sources import is_config, parse_source, read_sources
from perception3d.apis.option_texts import parse_options
from perception3d.checkpoint_files import require_checkpoint
from perception3d.checks import InputError, nearest_names

_CHECKPOINT_KEYS = ('load_from', 'teacher_checkpoint', 'checkpoint')
_SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def check_first(
    config: str | Path,
    checkpoint: str | Path | None = None,
    options: Sequence[str] = (),
    *,
    inputs: Iterable[str | Path] = (),
    reads_data: bool = False,
) -> None:
    """Checks the paths of a command, and what kind of file each one is.

    Args:
        config: path of a config, or the name of a shipped one.
        checkpoint: path of a checkpoint; 'demo' for the packaged one; None for none.
        options: the `key=value` strings of --cfg-options.
        inputs: files or folders that are read.
        reads_data: whether the command reads the data set of the config, whose `data_root` must then be there.

    Raises:
        InputError: names the first path that is wrong, and what is there instead; or an option's key that the config
            does not have.
    """
    path = find_config(config)
    if path.suffix not in _SUFFIXES:
        raise InputError(f'{path} is not a config: expected a .py, .json or .yaml file')
    trees = read_sources(path) if path.suffix == '.py' else {}
    named = parse_options(options)
    if checkpoint is not None:
        require_checkpoint(checkpoint)
    _check_checkpoints(named)
    for file in inputs:
        if not Path(file).exists():
            raise InputError(f'{file} does not exist: give a file or folder to read{_similar(Path(file))}')
    root = data_root_of(path, trees, named) if reads_data else None
    if root is not None and not Path(root).is_dir():
        what = 'is a file, not a folder' if Path(root).exists() else 'does not exist'
        raise InputError(f'folder {root} (data_root of {path}) {what}{_similar(Path(root))}: {_data_hint(trees, root)}')
    if named and trees:
        # Reads the config with mmengine, which looks up its classes, and with them torch, only when they are asked for.
        from perception3d.apis.config import check_option_keys

        check_option_keys(path, named)


def check_compared(models: Sequence[str], options: Sequence[str] = ()) -> None:
    """Checks the paths of `compare`, whose models are TITLE=CONFIG,CHECKPOINT each; errors as `check_first`."""
    for text in models:
        _, config, checkpoint = split_model(text)
        check_first(config, checkpoint, options, reads_data=True)


def split_model(text: str) -> tuple[str, str, str]:
    """Returns (title, config, checkpoint) of a text TITLE=CONFIG,CHECKPOINT.

    Raises:
        InputError: it is not of that form.
    """
    title, equals, files = text.partition('=')
    config, comma, checkpoint = files.rpartition(',')
    if not equals or not comma:
        raise InputError(f'{text!r}: expected TITLE=CONFIG,CHECKPOINT')
    return title, config, checkpoint


def check_experiment_file(path: str | Path) -> Path:
    """Returns `path` if it may be an experiment file.

    Raises:
        InputError: there is no such file, or it is a config.
    """
    path = find_experiment(path)
    if path.suffix == '.py' and is_config(parse_source(path, 'an experiment file')):
        raise InputError(f'{path} is a config, not an experiment file: train it with python tools/train.py {path}')
    return path


def _check_checkpoints(options: Mapping[str, Any]) -> None:
    """Checks the files that options name as `load_from`, or as the checkpoint of a part such as a teacher."""
    for key, value in options.items():
        last = key.rpartition('.')[2].lstrip('+')
        if last in _CHECKPOINT_KEYS and isinstance(value, str) and value and '://' not in value:
            require_checkpoint(Path(value).expanduser(), f'correct {key.lstrip("+")}, which an option sets')


def _similar(path: str | Path) -> str:
    """Names what is in the folder of a missing path under a similar name."""
    path = Path(path)
    folder = path.parent
    close = nearest_names(path.name, (entry.name for entry in folder.iterdir())) if folder.is_dir() else []
    return f' (did you mean {" or ".join(str(folder / name) for name in close)}?)' if close else ''


def _data_hint(trees: Mapping[Path, Any], root: str) -> str:
    name = format_of(trees)
    if not name:
        return 'give the folder of your data with --cfg-options data_root=DIR'
    made = f'python tools/create_data.py {name} --root'
    simulated = (Path(__file__).parents[1] / 'formats' / name.replace('-', '_')).glob('simulate*')
    world = f', or let python tools/simulate.py {name} --out {root} make one' if any(simulated) else ''
    return (
        f'unpack the data set there{world}, then run: {made} {root}; if it is elsewhere, give --cfg-options '
        'data_root=DIR'
    )
