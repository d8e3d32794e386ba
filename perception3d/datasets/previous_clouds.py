"""Which cloud comes before which: for models of two frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

MAX_GAP_S = 1.5
"""Clouds further apart do not belong together: people have walked past each other by then."""


def link_previous(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields samples in their order with `previous_lidar_path` and `previous_age_s` of the one before.

    That is one of the same `scene_token` with an earlier `timestamp`, up to MAX_GAP_S ago; other samples, as the first
    of a sequence or those without a time, have neither key.
    """
    before: dict[str, Any] = {}
    for sample in samples:
        known = all(key in each for each in (sample, before) for key in ('scene_token', 'timestamp'))
        if known and sample['scene_token'] == before['scene_token']:
            age_s = float(sample['timestamp']) - float(before['timestamp'])
            if 0 < age_s <= MAX_GAP_S:
                sample.update(previous_lidar_path=before['lidar_path'], previous_age_s=age_s)
        before = sample
        yield sample
