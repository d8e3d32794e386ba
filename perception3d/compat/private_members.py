"""Private members of upstream classes that the package reads or sets, each in one function.

A later version may rename them. Then these functions stop and name the member and its package, where a `getattr` with a
default would go on with a wrong value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perception3d.checks import InputError


def config_values(config: Any) -> Any:
    """Returns the ConfigDict that a Config of mmengine holds; a change to it is one to the config."""
    return _member(config, '_cfg_dict')


def lazy_values(config: Any) -> dict[str, Any]:
    """Returns a copy of the values of a Config of mmengine in which names of classes are not imported yet."""
    values: dict[str, Any] = _member(config, '_to_lazy_dict')()
    return values


def accumulated_iterations(optim_wrapper: Any) -> int:
    """Returns how many iterations a step of the optimizer takes; of several optimizers, the largest number.

    Takes an optimizer wrapper of mmengine or its config; without any (None) the number is 1.
    """
    from mmengine.optim import OptimWrapperDict

    if isinstance(optim_wrapper, OptimWrapperDict):
        return max(map(accumulated_iterations, optim_wrapper.values()))
    if optim_wrapper is None or isinstance(optim_wrapper, Mapping):
        return int((optim_wrapper or {}).get('accumulative_counts', 1))
    return int(_member(optim_wrapper, '_accumulative_counts'))


def is_loaded(dataset: Any) -> bool:
    """Whether a data set of mmengine has read its info file; False for other data sets."""
    from mmengine.dataset import BaseDataset

    return isinstance(dataset, BaseDataset) and bool(_member(dataset, '_fully_initialized'))


def set_iteration(loop: Any, iteration: int) -> None:
    """Sets the number of iterations that a training loop of mmengine counts as done."""
    _member(loop, '_iter')
    loop._iter = iteration


def decide_val_interval(loop: Any) -> None:
    """Lets a training loop of mmengine take the interval of validations that its current epoch has."""
    _member(loop, '_decide_current_val_interval')()


def expect_no_step_yet(optimizer: Any) -> None:
    """Sets the optimizer's step counter to 0, so that mmengine does not warn of a schedule that steps before it."""
    _member(optimizer, '_global_step')
    optimizer._global_step = 0


def forget_workers(loader: Any) -> None:
    """Lets a data loader of torch start new workers, with the data set as it is now, at its next epoch."""
    _member(loader, '_iterator')
    loader._iterator = None


def end_workers(loader: Any) -> None:
    """Ends the workers that a data loader of torch keeps for its next epoch, if it has any."""
    iterator = _member(loader, '_iterator')
    if iterator is not None:
        _member(iterator, '_shutdown_workers')()
        loader._iterator = None


def _member(owner: Any, name: str) -> Any:
    if not hasattr(owner, name):
        kind = type(owner)
        raise InputError(
            f'{kind.__module__}.{kind.__qualname__} has no {name}, which this package needs: install the version of '
            f'{kind.__module__.partition(".")[0]} that requirements/run.txt names'
        )
    return getattr(owner, name)
