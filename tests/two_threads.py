"""A model that two threads run at the same time, module by module."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from torch import nn


def meet_at_every_module(model: nn.Module) -> None:
    """Lets two threads that run `model` wait for each other before every module of it.

    What one thread leaves in memory of the model is then overwritten by the other before it is read, wherever the two
    share it. If one thread goes another way than the other, both run on without waiting.
    """
    barrier = threading.Barrier(2, timeout=5)

    def wait(*args: Any) -> None:
        if threading.current_thread() is not threading.main_thread() and not barrier.broken:
            with suppress(threading.BrokenBarrierError):
                barrier.wait()

    for module in model.modules():
        module.register_forward_pre_hook(wait)


def answers_of_two_threads(ask: Callable[[Any], Any], *questions: Iterable[Any]) -> list[list[Any]]:
    """Returns the answers of `ask` to every list of questions; each list is asked by a thread of its own."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(questions)) as pool:
            jobs = [pool.submit(lambda part: [ask(question) for question in part], part) for part in questions]
            return [job.result() for job in jobs]
    finally:
        sys.setswitchinterval(interval)


def is_same(first: Any, second: Any) -> bool:
    """Tells whether two data samples have exactly the same predicted boxes, scores and labels."""
    first, second = first.pred_instances_3d, second.pred_instances_3d
    return (
        torch.equal(first.bboxes_3d.tensor, second.bboxes_3d.tensor)
        and torch.equal(first.scores_3d, second.scores_3d)
        and torch.equal(first.labels_3d, second.labels_3d)
    )
