"""Resuming with other settings: the place within the epoch is kept in samples, and schedules are set to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from perception3d.checks import InputError
from perception3d.compat.private_members import accumulated_iterations, expect_no_step_yet, set_iteration

# What changes in the state of a schedule while it runs; all else follows from the config.
_RUNNING = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}
# More repeated steps than this may take seconds, so a line in the log announces them.
_MANY_STEPS = 10_000


@dataclass(frozen=True)
class Place:
    """Where a training stands within its epoch, and what an iteration was made of; kept in checkpoints.

    Attributes:
        samples: how many samples of the epoch all processes together have seen.
        dataset_length: samples of the data set, the length of an epoch.
        batch_size: samples of one process in an iteration.
        world_size: number of processes.
        accumulative_counts: iterations of a step of the optimizer.
    """

    samples: int
    dataset_length: int
    batch_size: int
    world_size: int
    accumulative_counts: int

    @classmethod
    def of(cls, runner: Runner, epoch: int, iteration: int) -> Place:
        """The place of a running training after `iteration` iterations in all, in epoch `epoch` (from 0)."""
        loop = runner.train_loop
        loader = loop.dataloader
        batch, length = batch_size(loader), len(loader.dataset)
        if hasattr(loop, 'samples_after'):
            samples = loop.samples_after(epoch, iteration)
        else:
            samples = (iteration - epoch * len(loader)) * batch * runner.world_size
        counts = accumulated_iterations(runner.optim_wrapper)
        return cls(max(0, samples), length, batch, runner.world_size, counts)

    @classmethod
    def read(cls, record: Any, path: str | Path) -> Place:
        """The place that a checkpoint holds; InputError where that is not one."""
        names = [field.name for field in fields(cls)]
        whole = isinstance(record, Mapping) and set(record) == set(names)
        if not whole or any(type(record[name]) is not int or record[name] < 0 for name in names):
            raise InputError(f'checkpoint {path} holds no valid position within its epoch: it was edited or is damaged')
        return cls(**record)


def batch_size(loader: Any) -> int:
    """Samples of one process in an iteration of a data loader."""
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)


def resume_place(runner: Runner, content: Mapping[str, Any], path: str | Path) -> None:
    """Sets the loop of a resumed runner to the place that the checkpoint holds, in iterations of the new settings.

    The rest of the epoch is trained with the new batch size and number of processes, then whole epochs. What differs
    is one line of the log.

    Args:
        content: of the checkpoint, which the runner has loaded.

    Raises:
        InputError: the checkpoint does not hold its place in the epoch, and it cannot be derived.
    """
    meta, loop = content['meta'], runner.train_loop
    if hasattr(loop, 'dataloader_iterator'):
        # A training that counts in iterations: mmengine keeps their number, and the place in the endless order.
        return
    loader, epoch, iteration = loop.dataloader, int(meta['epoch']), int(meta['iter'])
    now = Place.of(runner, epoch, epoch * len(loader))
    if 'place' in meta:
        before = Place.read(meta['place'], path)
    else:
        before = _derived_place(now, meta, len(loader), path)
    changes = _changes(before, now)
    if hasattr(loop, 'start_at'):
        loop.start_at(before.samples)
    elif changes:
        # mmengine's loop repeats an epoch that was interrupted.
        set_iteration(loop, epoch * len(loader))
    if epoch >= loop.max_epochs:
        runner.logger.warning(f'{path} is of epoch {epoch} of {loop.max_epochs}: nothing is left to train')
    elif changes:
        runner.logger.warning(
            f'resumed with other settings ({"; ".join(changes)}): epoch {epoch + 1} is trained from its sample '
            f'{min(before.samples, now.dataset_length)} of {now.dataset_length} on; the checkpoint is of '
            f'iteration {iteration}, which is iteration {loop.iter} of {loop.max_iters} with the settings of now'
        )


def _derived_place(now: Place, meta: Mapping[str, Any], epoch_length: int, path: str | Path) -> Place:
    """The place of a checkpoint that does not hold it, as those of mmengine: with the settings of now, if that fits."""
    epoch, iteration = int(meta['epoch']), int(meta['iter'])
    done = iteration - epoch * epoch_length
    if Path(path).stem == f'epoch_{epoch}':
        done = 0
    if not 0 <= done <= epoch_length:
        raise InputError(
            f'checkpoint {path} was written after {iteration} iterations, in epoch {epoch + 1}, and an epoch has '
            f'{epoch_length} iterations now: resume with the batch size, number of processes and data set of its '
            'training'
        )
    return Place(**{**asdict(now), 'samples': done * now.batch_size * now.world_size})


def _changes(before: Place, now: Place) -> list[str]:
    names = {
        'batch_size': 'batch size',
        'world_size': 'processes',
        'accumulative_counts': 'accumulated iterations',
        'dataset_length': 'samples of the data set',
    }
    return [
        f'{text} {getattr(before, name)} before, {getattr(now, name)} now'
        for name, text in names.items()
        if getattr(before, name) != getattr(now, name)
    ]


def base_rates(runner: Runner) -> list[float]:
    """The learning rates from which the schedules of a runner start, one a group of parameters."""
    groups = runner.optim_wrapper.param_groups
    if isinstance(groups, Mapping):
        groups = [group for part in groups.values() for group in part]
    return [float(group.get('initial_lr', group['lr'])) for group in groups]


def warn_of_other_rates(runner: Runner, wanted: list[float]) -> None:
    """Says that the learning rates `wanted` by the config are not those of the checkpoint, which a run keeps."""
    differ = [(of_config, kept) for of_config, kept in zip(wanted, base_rates(runner)) if of_config != kept]
    if differ:
        runner.logger.warning(
            f'the learning rate of the config, {differ[0][0]:.4g}, is not that of the checkpoint, {differ[0][1]:.4g}: '
            'the resumed training keeps the latter; to change it, begin one with load_from'
        )


def schedule_settings(runner: Runner) -> list[dict[str, Any]]:
    """What the schedules of a runner are made of, without how far they are."""
    return [
        {key: value for key, value in scheduler.state_dict().items() if key not in _RUNNING and not callable(value)}
        for scheduler in _schedules(runner)
        if not getattr(scheduler, 'need_val_args', False)
    ]


def resume_schedules(runner: Runner, content: Mapping[str, Any], wanted: list[dict[str, Any]]) -> None:
    """Lets the schedules of a resumed runner follow its config where that, or the length of an epoch, has changed.

    mmengine takes schedules from the checkpoint: those by iteration would end in another epoch with another batch
    size, and a longer training would end with a learning rate of nearly 0. The values become those that the config
    gives at this place, by the same steps as in a training that was not interrupted.

    Args:
        content: of the checkpoint, which the runner has loaded.
        wanted: `schedule_settings` as the config has built them, before the runner loaded the checkpoint.

    Raises:
        InputError: a schedule depends on past validations, so that its value here cannot be derived.
    """
    loop = runner.train_loop
    if not wanted:
        return
    steps_differ = loop.iter != int(content['meta']['iter']) and any(not s.by_epoch for s in _schedules(runner))
    stored = content.get('param_schedulers')
    kept = stored and _count(stored) == len(list(_schedules(runner))) and schedule_settings(runner) == wanted
    if kept and not steps_differ:
        return
    if any(getattr(scheduler, 'need_val_args', False) for scheduler in _schedules(runner)):
        raise InputError(
            'a schedule that depends on validation scores cannot be resumed with other schedules or another length of '
            'an epoch: resume with the settings of the checkpoint'
        )
    for scheduler in _schedules(runner):
        for group in scheduler.optimizer.param_groups:
            group[scheduler.param_name] = group[f'initial_{scheduler.param_name}']
    runner.param_schedulers = runner.build_param_scheduler(runner.cfg['param_scheduler'])
    schedules = list(_schedules(runner))
    if loop.iter > _MANY_STEPS:
        runner.logger.warning(
            f'setting the schedules to iteration {loop.iter}: every step before it is repeated, which may take a while'
        )
    by_iteration = [scheduler for scheduler in schedules if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedules if scheduler.by_epoch]
    for scheduler in schedules:
        # Else each warns that no step of the optimizer came before its own.
        expect_no_step_yet(scheduler.optimizer)
    for iteration in range(1, loop.iter + 1):
        for scheduler in by_iteration:
            scheduler.step()
        if iteration % len(loop.dataloader) == 0 and iteration // len(loop.dataloader) <= loop.epoch:
            for scheduler in by_epoch:
                scheduler.step()
    values = {f'{s.param_name} {s.get_last_value()[0]:.4g}' for s in schedules}
    runner.logger.warning(
        'the schedules of the config, or the length of an epoch, are not those of the checkpoint: they are set to what '
        f'the config gives in iteration {loop.iter} of {loop.max_iters} ({", ".join(sorted(values))})'
    )


def _count(stored: Any) -> int:
    return sum(map(len, stored.values())) if isinstance(stored, Mapping) else len(stored)


def _schedules(runner: Runner) -> Iterable[Any]:
    """The schedules of all optimizers of a runner."""
    schedulers = runner.param_schedulers or []
    if isinstance(schedulers, Mapping):
        return [item for part in schedulers.values() for item in part]
    return list(schedulers)
