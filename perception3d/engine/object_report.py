"""Reports before a training begins which objects are left out, and refuses a data set without objects."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.engine.wrappers import base_datasets


def report_objects(dataset: Any) -> None:
    """Prints, in the first process, a line for each reason for which objects of a data set are left out.

    Wrapped and joined data sets are looked into. A data set takes part if it has an `object_count` with `notes()` and
    `nothing_to_train_on()`; see `datasets/object_count.py`.

    Raises:
        InputError: there is no object to train on, with the reason.
    """
    counts = [count for count in map(_count_of, base_datasets(dataset)) if count is not None]
    for count in counts:
        for note in count.notes():
            print_log(note, 'current', logging.WARNING)
    reasons = [count.nothing_to_train_on() for count in counts]
    if reasons and None not in reasons:
        raise InputError(reasons[0])


def _count_of(dataset: Any) -> Any:
    return vars(dataset).get('object_count')
