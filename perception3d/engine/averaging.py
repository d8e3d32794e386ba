"""Averaged weights (EMA): mmengine's EMAHook, with checks when a checkpoint is saved and resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from perception3d.checkpoints import check_weights
from perception3d.checks import InputError
from perception3d.weight_values import check_converging

_COPY = 'module.'


@HOOKS.register_module()
class AveragedWeightsHook(EMAHook):
    """mmengine's EMAHook; our runner takes this hook where a config names that one.

    Validation and `state_dict` of a checkpoint have the average, so that test, infer and compare use it; the weights
    that the optimizer changes are in `ema_state_dict`, from which a training resumes exactly. Of a `Distiller` only the
    student is averaged: the teacher is shared with the copy, and adapters are not in the state dict.

    Different from mmengine: a test of a checkpoint, whose weights are the average already, makes no copy of the model;
    an average that is not finite is not saved.
    """

    ema_model: nn.Module | None = None

    def before_run(self, runner: Runner) -> None:
        """Makes the copy that holds the average, unless the runner has nothing to train."""
        if runner.trains:
            super().before_run(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Puts the average into `state_dict` and the trained weights into `ema_state_dict`.

        Raises:
            InputError: the average is not finite.
        """
        averaged: Any = self.ema_model
        check_converging(averaged.module, 'the checkpoint', 'averaged model')
        super().before_save_checkpoint(runner, checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Gives the copy the average of the checkpoint."""
        if self.ema_model is not None:
            super().after_load_checkpoint(runner, checkpoint)

    def _swap_ema_parameters(self) -> None:
        if self.ema_model is not None:
            super()._swap_ema_parameters()


def check_averages_resume(runner: Runner, model: nn.Module, content: Mapping[str, Any], path: str | Path) -> None:
    """Checks the part of a checkpoint that belongs to averaged weights before a training resumes from it.

    Args:
        content: of the checkpoint `path`, its tensors on the device 'meta'.

    Raises:
        InputError: the trained weights next to the average are of another model; or the training does not average, and
            would let the optimizer of the trained weights change their average.
    """
    if 'ema_state_dict' not in content:
        return
    if not any(getattr(hook, 'ema_model', None) is not None for hook in runner.hooks):
        raise InputError(
            f'checkpoint {path} is of a training with averaged weights, and the config has no EMAHook: resume it with '
            'the schedule base averaged.py, or begin a training from the average with --cfg-options '
            f'load_from={path}'
        )
    state = content['ema_state_dict']
    trained = {name.removeprefix(_COPY): value for name, value in state.items() if name.startswith(_COPY)}
    check_weights(model, trained, path)
