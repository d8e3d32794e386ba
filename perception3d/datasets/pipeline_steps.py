"""The steps of a data set's pipeline, and what they state that the data set, or another step, states too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perception3d.checks import InputError


def steps_of(pipeline: Any) -> Iterator[Any]:
    """Yields every step of a pipeline, and the steps inside those that hold pipelines (TestTimeAug, PairedViews)."""
    for step in pipeline if isinstance(pipeline, Sequence) else getattr(pipeline, 'transforms', ()):
        if isinstance(step, Sequence) or type(step).__name__ == 'Compose':
            yield from steps_of(step)
            continue
        yield step
        for value in vars(step).values() if hasattr(step, '__dict__') else ():
            parts = value if isinstance(value, (list, tuple)) else [value]
            yield from (inner for part in parts if hasattr(part, 'transforms') for inner in steps_of(part))


def check_class_lists(place: str, pipeline: Any, classes: Sequence[str]) -> None:
    """Compares the class lists of a pipeline's steps with the classes of the data set, whose places are the labels.

    A sampler of objects (`db_sampler`) gives its objects labels by its own list; a filter of names keeps the first so
    many labels.

    Args:
        place: the data set, for the error.
        pipeline: mmengine's Compose, or a list of steps.
        classes: classes of the data set.

    Raises:
        InputError: a list differs from that of the data set; names both.
    """
    classes = tuple(classes)
    for step in steps_of(pipeline):
        listed = getattr(getattr(step, 'db_sampler', None), 'classes', None)
        if listed is not None and tuple(listed) != classes:
            raise InputError(
                f'{place} has the classes {", ".join(classes)}, but the db_sampler of {type(step).__name__} '
                f'{", ".join(listed)}: pasted objects would get labels of other classes; give both the same list'
            )
        # A filter of names keeps labels below the length of its list.
        listed = getattr(step, 'classes', None)
        if listed is not None and hasattr(step, 'labels') and set(listed) != set(classes[: len(listed)]):
            raise InputError(
                f'{place} has the classes {", ".join(classes)}, but {type(step).__name__} keeps {", ".join(listed)}: '
                f'by their places it would keep {", ".join(classes[: len(listed)])}; give both the same list'
            )


def views_of(pipeline: Any) -> list[list[Any]]:
    """Returns the steps of each view that a pipeline makes: one, or as PairedViews the student's and the teacher's."""
    shared: list[Any] = []
    views: list[list[Any]] = []
    for step in pipeline if isinstance(pipeline, Sequence) else getattr(pipeline, 'transforms', ()):
        inside = vars(step).values() if hasattr(step, '__dict__') else ()
        pipelines = [value for value in inside if hasattr(value, 'transforms')]
        if len(pipelines) > 1:
            views = [list(steps_of(value)) for value in pipelines]
        else:
            shared += steps_of([step])
    return [shared + view for view in views or [[]]]


@dataclass(frozen=True)
class KeptRange:
    """The range that a step keeps: its class, whether it filters points or objects, [x0, y0, z0, x1, y1, z1] metres."""

    step: str
    of_points: bool
    range_m: list[float]


def filter_ranges(pipeline: Any) -> list[list[KeptRange]]:
    """Returns the ranges that the steps of each view keep."""
    kept = []
    for view in views_of(pipeline):
        spans = [(type(step).__name__, getattr(step, 'pcd_range', None)) for step in view]
        kept.append([
            KeptRange(name, name.startswith('Points'), [float(edge) for edge in span])
            for name, span in spans if span is not None
        ])  # fmt: skip
    return kept
