"""A short digest of what a cell computes, so that a result of another config is not taken for this one's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.experiment.plan import Arm, Experiment

# A sample depends on the seed and its place alone, whoever loads it: these may change between two calls.
_WITHOUT_EFFECT = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')


def fingerprints(experiment: Experiment, processes: int = 1) -> dict[str, str]:
    """Returns the digest of every arm: its resolved configs for training and test, and the digests of what it needs.

    References such as '{out}' stay as they are, so that the output folder may be moved. Each of the `processes` of a
    cell takes a batch: more than one are part of the digest.

    Raises:
        InputError: a config does not load or does not have an option; two arms with a common seed are the same.
    """
    digests: dict[str, str] = {}
    for arm in experiment.arms.values():
        _add(arm, experiment, processes, digests)
    seen: dict[tuple[str, int], str] = {}
    for arm in experiment.arms.values():
        for seed in arm.seeds:
            twin = seen.setdefault((digests[arm.name], seed), arm.name)
            if twin != arm.name:
                raise InputError(
                    f'{experiment.file}: arms {twin!r} and {arm.name!r} are the same: equal configs, options and seeds'
                )
    return digests


def _add(arm: Arm, experiment: Experiment, processes: int, digests: dict[str, str]) -> str:
    if arm.name not in digests:
        needs = [_add(experiment.arms[name], experiment, processes, digests) for name in arm.needs]
        try:
            train = _resolved(arm.config, arm.options)
            test = _resolved(arm.test_config, arm.test_options)
        except InputError as error:
            raise InputError(f'{experiment.file}: arm {arm.name!r}: {error}') from error
        content = {'train': train, 'test': test, 'needs': needs}
        if processes != 1:
            content['processes'] = processes
        text = json.dumps(content, sort_keys=True, default=repr)
        digests[arm.name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return digests[arm.name]


def _resolved(config: Path, options: Mapping[str, Any]) -> Any:
    return _plain(load_config(config, options).to_dict())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if key not in _WITHOUT_EFFECT}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
