"""What tools/train.py does: train a config, or try one step of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from perception3d.apis.config import load_config
from perception3d.apis.option_texts import parse_options
from perception3d.apis.runner import (
    build_runner,
    checkpoint_folder,
    checkpoint_to_resume,
    checkpoints_to_replace,
    parameter_table,
    shape_table,
    work_folder,
)
from perception3d.engine.agreement import check_runner
from perception3d.engine.distributed import process_rank
from perception3d.engine.wrappers import unwrapped
from perception3d.locks import folder_lock
from perception3d.outputs import check_outputs


def train(
    config: str,
    options: Sequence[str] = (),
    *,
    work_dir: str | Path | None = None,
    resume: str | os.PathLike[str] | bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Runner:
    """Trains `config` with `options` (key=value strings) and returns the runner; `settings` are build_runner's.

    Args:
        work_dir, resume: as in build_runner. `resume = True` in the config means the same.
        overwrite: begin a training in a work folder that holds checkpoints. They are removed (epoch_N.pth, iter_N.pth,
            best_*.pth and names of the config's filename_tmpl, no other files) when the new training has written its
            first one. With a path in `resume`, those that are further than it.

    Raises:
        InputError: as build_runner; or the work folder holds checkpoints that would be overwritten unasked; or another
            training is running in it.
    """
    loaded = load_config(config, parse_options(options))
    folder = work_folder(loaded, work_dir)
    resume = checkpoint_to_resume(loaded, resume)
    check_outputs(folders=[folder])
    # One training at a time in a folder; its first process holds that for the others.
    first = settings.get('launcher', 'none') == 'none' or process_rank() == 0
    saved = checkpoint_folder(loaded, folder)
    with ExitStack() as locks:
        for held in sorted({folder, saved}) if first else ():
            locks.enter_context(folder_lock(held, 'being trained in'))
        template = ((loaded.get('default_hooks') or {}).get('checkpoint') or {}).get('filename_tmpl') or ''
        replaced = checkpoints_to_replace(folder, resume, overwrite, template)
        if saved != folder and not resume:
            # They may be of a training in another work folder of the same name.
            replaced += checkpoints_to_replace(saved, False, overwrite, template)
        runner = build_runner(loaded, folder, resume=resume, **settings)
        runner.replaced_checkpoints = replaced
        runner.train()
    return runner


def dry_run(config: str, options: Sequence[str] = (), **settings: Any) -> dict[str, float]:
    """Builds everything, trains one step on one batch of the data, and prints the parameters, shapes and losses.

    It is the first step of a training, or where parts of the model begin later, as links of a distillation do, the
    first one with all of them (`whole_step` of the model). Nothing is saved. Returns the losses.
    """
    settings['resume'] = False
    settings.pop('overwrite', None)
    loaded = load_config(config, parse_options(options))
    loaded.pop('resume', None)
    # mmengine logs the whole config and all hooks, which would bury the few lines that a dry run prints.
    loaded.log_level = 'WARNING'
    runner = build_runner(loaded, **settings)
    print(parameter_table(runner.model))
    loop = runner.prepare_one_step()
    check_runner(runner)
    # As the hooks of a training would set them: schedules may use fractions of the training.
    whole_step = getattr(unwrapped(runner.model), 'whole_step', None)
    step = whole_step(loop.max_iters) if whole_step else 0
    runner.message_hub.update_info('iter', step)
    runner.message_hub.update_info('max_iters', loop.max_iters)
    runner.model.train()
    start = time.perf_counter()
    batch = next(iter(loop.dataloader))
    loaded = time.perf_counter()
    print(shape_table(batch))
    losses = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
    losses = {name: float(value.detach()) for name, value in losses.items()}
    print(f'one batch loads in {loaded - start:.2f} s, one step takes {time.perf_counter() - loaded:.2f} s')
    if step:
        print(f'the step is that of iteration {step} of {loop.max_iters}, the first one with all links')
    print('losses: ' + ', '.join(f'{name} {value:.4f}' for name, value in losses.items()))
    return losses
