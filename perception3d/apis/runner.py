"""Building the runner of a config: for training, for testing, and for a dry run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from perception3d.apis.config import schedule_ends_elsewhere
from perception3d.checkpoint_files import require_checkpoint
from perception3d.checks import InputError
from perception3d.compat.private_members import lazy_values
from perception3d.engine.amp import MixedPrecisionOptimWrapper
from perception3d.engine.cpu import prepare_cpu
from perception3d.engine.runner import PerceptionRunner
from perception3d.outputs import check_outputs
from perception3d.training_folder import (
    checkpoints_after,
    latest_checkpoint,
    removable_checkpoints,
    training_checkpoints,
)

_TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')


def build_runner(
    config: Config,
    work_dir: str | Path | None = None,
    *,
    resume: str | os.PathLike[str] | bool = False,
    launcher: str = 'none',
    amp: bool = False,
    for_test: bool = False,
) -> Runner:
    """Builds the runner of `config`.

    Args:
        config: as load_config returns it; not changed.
        work_dir: where logs and checkpoints go; by default the config's, else work_dirs/<name of the config>.
        resume: a checkpoint, or True for the newest one in the work folder; `resume = True` in the config means the
            same, with `load_from` as the checkpoint where it is given.
        launcher: 'none', 'pytorch' or 'slurm'.
        amp: mixed precision: bf16 on the CPU, and on a GPU unless the config sets float16.
        for_test: leave out what only training needs (data, optimizer), which may not be on this machine.

    Raises:
        InputError: a part of the config cannot be built, or there is nothing to resume.
    """
    prepare_cpu()
    config = Config(lazy_values(config), filename=config.filename)
    config.launcher = launcher
    config.work_dir = str(work_folder(config, work_dir))
    check_outputs(folders=[config.work_dir])
    if for_test:
        # With load_from, mmengine would test those weights instead of the given checkpoint.
        for key in (*_TRAINING, 'val_dataloader', 'val_cfg', 'val_evaluator', 'load_from', 'resume'):
            config.pop(key, None)
    else:
        _warn_of_other_schedule(config)
    if amp:
        use_mixed_precision(config)
    resume = checkpoint_to_resume(config, resume)
    if resume:
        _resume(config, resume)
    elif config.get('load_from') and '://' not in config.load_from:
        hint = 'correct load_from of the config'
        config.load_from = str(require_checkpoint(Path(config.load_from).expanduser(), hint))
    try:
        return PerceptionRunner.from_cfg(config)
    except (ImportError, KeyError, TypeError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, InputError) else error
        if isinstance(cause, InputError):
            raise cause from error
        raise InputError(f'{config.filename or "the config"} cannot be built: {error}') from error


def use_mixed_precision(config: Config) -> None:
    """Switches the optimizer wrapper of `config` to mixed precision, in place."""
    wrapper = config.get('optim_wrapper')
    if wrapper is None:
        raise InputError(f'{config.filename}: --amp needs an optim_wrapper in the config')
    wrapper['type'] = MixedPrecisionOptimWrapper
    if 'dtype' not in wrapper:
        wrapper['dtype'] = 'bfloat16'


def _warn_of_other_schedule(config: Config) -> None:
    """Prints a warning if the learning rate schedules of `config` end at another epoch than its training."""
    fault = schedule_ends_elsewhere(config)
    if fault:
        hint = '; max_epochs at the top sets both where the file computes both from it'
        print(f'{fault}: set the end of the latter too{hint if "max_epochs" in config else ""}')


def work_folder(config: Config, work_dir: str | Path | None = None) -> Path:
    """Returns where logs and checkpoints go: `work_dir`, else the config's, else work_dirs/<name of the config>."""
    name = Path(config.filename).stem if config.filename else 'run'
    return Path(work_dir or config.get('work_dir') or Path('work_dirs') / name)


def checkpoint_folder(config: Config, folder: Path) -> Path:
    """Returns the folder of the checkpoints: the work folder, or one of its name in `out_dir` of CheckpointHook."""
    out_dir = ((config.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')
    return folder if not out_dir or '://' in str(out_dir) else Path(out_dir) / folder.absolute().name


def checkpoint_to_resume(config: Config, resume: str | os.PathLike[str] | bool) -> str | os.PathLike[str] | bool:
    """Returns `resume`, or else what the config sets; see build_runner."""
    return resume or (config.get('resume') and (config.get('load_from') or True)) or False


def checkpoints_to_replace(
    folder: Path, resume: str | os.PathLike[str] | bool, overwrite: bool, template: str = ''
) -> list[Path]:
    """Returns the checkpoints in the work folder that a training will remove, once it has one of its own.

    Args:
        template: `filename_tmpl` of the config.

    Raises:
        InputError: without `overwrite`, checkpoints of another training, or later ones than the one to resume, would be
            overwritten.
    """
    if resume is True and overwrite:
        raise InputError(
            '--resume continues the newest checkpoint, --overwrite replaces a training: give one of the two'
        )
    earlier = training_checkpoints(folder)
    if not earlier or resume is True:
        return []
    newest = latest_checkpoint(folder)
    what = 'of a training'
    if resume and Path(resume).resolve().parent == folder.resolve():
        chosen = Path(resume)
        is_newest = newest is not None and newest.resolve() == chosen.resolve()
        earlier = [] if is_newest and not overwrite else checkpoints_after(chosen, earlier)
        what = f'that are further than --resume {resume}'
    if not earlier:
        return []
    if overwrite:
        removable = removable_checkpoints(folder, template)
        return [path for path in earlier if path in removable]
    held = f'{folder} holds checkpoints {what} ({earlier[-1].name}' + (', ...)' if len(earlier) > 1 else ')')
    if not resume:
        ways = 'continue it with --resume, replace it' if newest else 'none can be resumed: replace them'
        raise InputError(f'{held}: {ways} with --overwrite, or give another --work-dir')
    foreign = f', and --resume {resume} is not one of them' if what == 'of a training' else ''
    raise InputError(f'{held}{foreign}: add --overwrite to replace them, or give another --work-dir')


def _resume(config: Config, resume: str | os.PathLike[str] | bool) -> None:
    if not isinstance(resume, bool):
        checkpoint: str | os.PathLike[str] | bool | None = resume
        if not Path(resume).is_file():
            raise InputError(
                f'--resume: {resume} does not exist; without a path the newest one in the work folder is taken'
            )
    else:
        checkpoint = latest_checkpoint(config.work_dir, report=print)
        if checkpoint is None:
            raise InputError(
                f'--resume: {config.work_dir} holds no complete checkpoint of a training: begin one with --overwrite '
                'in place of --resume, or give the path of a checkpoint'
            )
    print(f'resuming from {checkpoint}')
    config.resume = True
    config.load_from = str(checkpoint)


def parameter_table(model: Any, depth: int = 1) -> str:
    """Returns a table of the parameters of `model` in millions, by submodule down to `depth`."""
    counts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        row = counts.setdefault('.'.join(name.split('.')[:depth]), [0, 0])
        row[0] += parameter.numel()
        row[1] += parameter.numel() * parameter.requires_grad
    counts['total'] = [sum(row[0] for row in counts.values()), sum(row[1] for row in counts.values())]
    lines = [f'{"module":24} {"parameters, M":>14} {"trained, M":>12}']
    lines += [f'{name:24} {row[0] / 1e6:14.3f} {row[1] / 1e6:12.3f}' for name, row in counts.items()]
    return '\n'.join(lines)


def shape_table(batch: Mapping[str, Any], prefix: str = '') -> str:
    """Returns the shapes and types of the tensors in a batch, one per line."""
    lines = []
    for key, value in batch.items():
        name = f'{prefix}{key}'
        items = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, Mapping):
            lines.append(shape_table(value, f'{name}.'))
        elif items and hasattr(items[0], 'shape'):
            count = f'{len(items)} x ' if isinstance(value, (list, tuple)) else ''
            lines.append(f'{name:24} {count}{tuple(items[0].shape)} {items[0].dtype}')
        elif items and isinstance(value, (list, tuple)):
            lines.append(f'{name:24} {len(items)} x {type(items[0]).__name__}')
    return '\n'.join(line for line in lines if line)
