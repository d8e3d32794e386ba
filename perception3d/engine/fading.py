"""The fading strategy: pasted objects are left out of the last epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from perception3d.checks import InputError
from perception3d.compat.private_members import forget_workers
from perception3d.engine.wrappers import all_datasets
from perception3d.registry import HOOKS


@HOOKS.register_module()
class FadeObjectSampleHook(Hook):
    """Switches off `PasteObjects` (or mmdet3d's ObjectSample) in the last epochs, so that training ends on real frames.

    Wang et al., PointAugmenting, CVPR 2021, section 3.4. mmdet3d's DisableObjectSampleHook looks through one wrapper
    of the data set only, and misses its epoch when a run is resumed after it.

    Args:
        last_epochs: how many epochs at the end of the training are without pasted objects. 0: all
            epochs have them, as configs derive it for a short training.
    """

    def __init__(self, last_epochs: int = 5) -> None:
        if last_epochs < 0:
            raise InputError(f'last_epochs={last_epochs}: give 0 (objects are always pasted) or more')
        self.last_epochs = last_epochs

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the switch of every such step for this epoch; workers with the old value are started again."""
        loader = runner.train_dataloader
        disabled = runner.epoch >= runner.max_epochs - self.last_epochs
        steps = list(_switchable(loader.dataset))
        if not steps:
            raise InputError('FadeObjectSampleHook: no step of the training pipeline pastes objects')
        if any(step.disabled != disabled for step in steps):
            runner.logger.info('objects are %s pasted from this epoch on', 'no longer' if disabled else 'again')
            for step in steps:
                step.disabled = disabled
            # Persistent workers have a copy of the data set.
            forget_workers(loader)


def _switchable(dataset: Any) -> Iterator[Any]:
    """Yields the steps with a switch `disabled` in the pipelines of a data set and of those inside it."""
    for part in all_datasets(dataset):
        steps = getattr(vars(part).get('pipeline'), 'transforms', ())
        yield from (step for step in steps if hasattr(step, 'disabled'))
