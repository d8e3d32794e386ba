"""Several models on one scene: their predictions, and below each its response on the BEV grid, or its errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perception3d.checks import InputError
from perception3d.structures.base import Structure
from perception3d.structures.frame import Y_FORWARD, LidarAxes
from perception3d.structures.heatmaps import Heatmaps
from perception3d.structures.primitives import StructureStyle
from perception3d.structures.views import BevView
from perception3d.visualization.bev import draw_background
from perception3d.visualization.canvas import text
from perception3d.visualization.legend import draw_legend
from perception3d.visualization.paint import paint
from perception3d.visualization.panels import draw_map
from perception3d.visualization.windows import covering_view

_PREDICTION = StructureStyle(thickness_px=2)
_TRUTH_COLOR = (235, 235, 235)
_TRUTH_UPPER, _TRUTH_LOWER = StructureStyle(bev_opacity=0.3), StructureStyle()


@dataclass(frozen=True)
class Column:
    """What one model predicts in a scene.

    Attributes:
        title: above its column.
        structures: its predictions, in the LiDAR frame, with class names.
        response: how it responds in every cell, such as the best class score; on a BEV range. None for a model without
            such a map: its predictions are then drawn against the ground truth.
    """

    title: str
    structures: Sequence[Structure]
    response: Heatmaps | None = None


def draw_comparison(
    columns: Sequence[Column],
    ground_truth: Sequence[Structure] | None = None,
    axes: LidarAxes = Y_FORWARD,
    width_px: int = 480,
) -> np.ndarray:
    """Returns a picture (2 * H, N * W + L, 3) BGR: a column for each of N models, predictions above, response below.

    The last L pixels are a legend: the colours of the classes that are drawn. Annotated structures are tinted white in
    the upper row and outlined in white in the lower. A model without a response has there its predictions over the
    ground truth, of point labels the wrong ones in red. Every panel shows all that any of the responses covers, else
    what the structures cover, with the way forward up.

    Args:
        columns: one for each model.
        ground_truth: what is annotated, where anything is.
        axes: those of the LiDAR frame.
        width_px: of a column; the height follows.

    Raises:
        InputError: there is nothing to compare, or a response has no BEV range.
    """
    if not columns:
        raise InputError('there is nothing to compare: give one model or more')
    ranges = [_range_of(column.response) for column in columns if column.response is not None]
    view = covering_view(axes, ranges or [_covered(axes, columns, ground_truth or ())], width_px)
    view = replace(view, with_texts=False, with_motion=False)
    panels = [np.vstack(_panels(column, ground_truth or (), view)) for column in columns]
    classes = drawn_classes(_colored(columns, ground_truth or ()))
    legend = draw_legend(round(0.375 * width_px), len(panels[0]), classes, (), scale=width_px / 480, marks=())
    return np.hstack([*panels, legend])


def _colored(columns: Sequence[Column], ground_truth: Sequence[Structure]) -> Iterator[Structure]:
    """Yields the structures that are drawn in the colours of their classes."""
    for column in columns:
        yield from column.structures
        # Over a response annotated structures are white.
        if column.response is None:
            yield from ground_truth
            yield from (structure.against(ground_truth) for structure in column.structures)


def drawn_classes(structures: Iterable[Structure]) -> list[str]:
    """Returns the classes that structures have objects, points or lanes of, in the order of the labels."""
    drawn: dict[str, int] = {}
    for structure in structures:
        for name, count in zip(structure.classes, structure.counts().tolist()):
            drawn[name] = drawn.get(name, 0) + count
    return [name for name, count in drawn.items() if count]


def draw_response(response: Heatmaps, view: BevView) -> np.ndarray:
    """Returns a panel (H, W, 3) BGR of the greatest value over the classes: dark is 0, bright 1, black not covered."""
    best, _ = response.best()
    return draw_map(best, _range_of(response), view)


def _range_of(response: Heatmaps) -> tuple[float, float, float, float]:
    if response.range_m is None:
        raise InputError('a response has no range_m: only maps of the ground can be drawn')
    return response.range_m


def _covered(
    axes: LidarAxes, columns: Sequence[Column], ground_truth: Sequence[Structure]
) -> tuple[float, float, float, float]:
    """The rectangle x0, y0, x1, y1 in metres around all structures, with a margin of a metre."""
    structures = [*ground_truth, *(structure for column in columns for structure in column.structures)]
    xy = np.concatenate([np.zeros((1, 2)), *(structure.footprints() for structure in structures)])
    (x0, y0), (x1, y1) = xy.min(axis=0) - 1, xy.max(axis=0) + 1
    return float(x0), float(y0), float(x1), float(y1)


def _panels(column: Column, ground_truth: Sequence[Structure], view: BevView) -> tuple[np.ndarray, np.ndarray]:
    scale = view.width_px / 640
    truth = [structure.drawable()[0] for structure in ground_truth]
    predictions = [structure.drawable()[0] for structure in column.structures]
    upper = draw_background(view, None, scale)
    if column.response is None:
        lower = draw_background(view, None, scale)
        for structure in truth:
            paint(lower, structure.primitives(view, _TRUTH_LOWER))
        for structure in predictions:
            paint(lower, structure.against(truth).primitives(view, _PREDICTION))
    else:
        lower = draw_response(column.response, view)
        for structure in truth:
            paint(upper, structure.primitives(view, _TRUTH_UPPER), color=_TRUTH_COLOR)
            paint(lower, structure.primitives(view, _TRUTH_LOWER), color=_TRUTH_COLOR)
    for structure in predictions:
        paint(upper, structure.primitives(view, _PREDICTION))
    text(upper, column.title, (4, 4), height_px=13, plate=0.6)
    for panel in (upper, lower):
        panel[:, -1] = 90
    return upper, lower
