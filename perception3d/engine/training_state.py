"""Keeping in checkpoints what only training needs, next to the model's own state dict."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from perception3d.engine.resuming import Place
from perception3d.engine.wrappers import unwrapped


@HOOKS.register_module()
class TrainingStateHook(Hook):
    """Saves the place within the epoch, saves and resumes `training_state()` of models that have it.

    Our runner always has this hook.

    Such a model (`Distiller`) has parameters that belong to its training alone: they are not in its state dict, so that
    its checkpoints are those of the plain model.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the place within the epoch, and the model's training state, to the checkpoint."""
        meta = checkpoint['meta']
        meta['place'] = asdict(Place.of(runner, meta['epoch'], meta['iter']))
        model = unwrapped(runner.model)
        if hasattr(model, 'training_state'):
            checkpoint['training_state'] = {name: value.cpu() for name, value in model.training_state().items()}

    def after_train(self, runner: Runner) -> None:
        """Reads the state once more, in every process: a model raises an error if its training went wrong."""
        model = unwrapped(runner.model)
        if hasattr(model, 'training_state'):
            model.training_state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Gives the training state back to the model when a run is resumed."""
        model = unwrapped(runner.model)
        if runner.resumes and hasattr(model, 'load_training_state'):
            model.load_training_state(checkpoint.get('training_state', {}))
