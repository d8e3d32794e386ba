"""What a model expects of its data: classes, frames, range, anchors. `engine.agreement` compares it with a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, Generic, TypeVar

T = TypeVar('T')


@dataclass(frozen=True)
class Stated(Generic[T]):
    """A value of a model and the place in its config that states it, such as 'bbox_head.num_classes', for errors."""

    place: str
    value: T


@dataclass(frozen=True)
class ExpectedData:
    """What a model expects of its data; what is None or empty is not compared.

    Attributes:
        class_names: the classes by name, in the order of the labels.
        num_classes: how many classes there are.
        entries_per_class: place in the config -> how many entries it has, where each class needs one.
        anchor_sizes: length, width and height in metres of the anchors of each class, in the order of the labels.
        num_frames: frames of a sample.
        range_m: x0, y0, z0, x1, y1, z1 in metres, LiDAR frame, in which points must be kept.
        takes_points: whether clouds are part of its input. If not, the steps of a pipeline that keep a range are not
            compared: objects may lie outside the range in which points are kept.
    """

    class_names: Stated[Sequence[str]] | None = None
    num_classes: Stated[int] | None = None
    entries_per_class: Mapping[str, int] = field(default_factory=dict)
    anchor_sizes: Stated[Sequence[Sequence[float]]] | None = None
    num_frames: Stated[int] | None = None
    range_m: Stated[Sequence[float]] | None = None
    takes_points: bool = True


def expected_data(model: Any) -> ExpectedData:
    """Returns what a model expects of its data: by its own method `expected_data()`, else by its class."""
    method = getattr(model, 'expected_data', None)
    return expected_of_class(model) if method is None else method()


@singledispatch
def expected_of_class(model: Any) -> ExpectedData:
    """Returns what a model without a method `expected_data` expects: nothing, unless its class is registered.

    `expected_of_class.register(Class)` registers a function for a class and its subclasses.
    """
    return ExpectedData()
