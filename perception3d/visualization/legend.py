"""The legend: what colours and lines mean, and how many objects of each class there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from perception3d.visualization.bev import BACKGROUND
from perception3d.visualization.canvas import arrow, fill, stroke, text, text_size
from perception3d.visualization.palette import class_color

_BRIGHT = (235, 235, 235)
_MUTED = (165, 160, 155)


def draw_legend(
    width: int,
    height: int,
    class_names: Sequence[str],
    counts: Sequence[np.ndarray | None],
    notes: Sequence[str] = (),
    scale: float = 1.0,
    marks: Collection[str] = ('outlines', 'fronts', 'motion'),
) -> np.ndarray:
    """Returns a (height, width, 3) BGR panel.

    Args:
        width: in pixels.
        height: in pixels.
        class_names: K names.
        counts: (K,) number of annotated objects and (K,) of predicted ones; None where the picture has no such source,
            and nothing where objects are not counted.
        notes: further lines, muted.
        scale: size of text and lines.
        marks: what else is explained: 'outlines', the lines of truth and predictions (of both where objects are not
            counted), 'fronts', the filled faces of boxes, and 'motion', the arrows of velocities.
    """
    panel = np.full((height, width, 3), BACKGROUND, np.uint8)
    # Many classes share the height; text stays readable down to 7 pixels.
    num_lines = len(class_names) + len(notes) + 8
    step = min(24 * scale, (height - 12 * scale) / max(num_lines, 1))
    size = max(min(9.5 * scale, 0.42 * step), 6.0)
    y, left = 10 * scale, 12 * scale
    with_gt, with_pred = (count is not None for count in counts or (None, None))
    heading = ' / '.join(word for word, shown in (('GT', with_gt), ('pred', with_pred)) if shown)
    _write_row(panel, 'class', heading, (left + 1.4 * step, y), _MUTED, size)
    for index, name in enumerate(class_names):
        y += step
        color = class_color(name)
        box = _rectangle(left, y + 0.05 * step, 1.1 * step, 0.6 * step)
        fill(panel, [box], [color], 1.0)
        number = ' / '.join(str(int(count[index])) for count in counts if count is not None)
        _write_row(panel, name.replace('_', ' '), number, (left + 1.4 * step, y), _BRIGHT, size)
    y += 1.6 * step
    thick = max(1, round(1.4 * scale))
    truth, prediction = ('ground truth', thick, (6 * scale, 4 * scale)), ('prediction', thick, None)
    lines = [truth] * (with_gt or not counts) + [prediction] * (with_pred or not counts)
    if 'outlines' in marks:
        y = _draw_line_styles(panel, (left, y), step, size, lines)
    if 'fronts' in marks:
        front = _rectangle(left + 0.4 * step, y + 0.05 * step, 0.8 * step, 0.7 * step)
        fill(panel, [front], [_BRIGHT], 0.35)
        text(panel, 'front face', (left + 2.0 * step, y), _BRIGHT, size)
        y += step
    if 'motion' in marks:
        arrow(panel, (left, y + 0.4 * step), (left + 1.6 * step, y + 0.4 * step), _BRIGHT, 1)
        text(panel, 'motion in 1 s', (left + 2.0 * step, y), _BRIGHT, size)
        y += step
    y += 0.4 * step
    for note in notes:
        text(panel, note, (left, y), _MUTED, size)
        y += step
    return panel


def _write_row(
    panel: np.ndarray, name: str, number: str, corner: tuple[float, float], color: Sequence[int], size: float
) -> None:
    """Writes a name on the left and a number at the right border; in a long row both get smaller letters."""
    room = panel.shape[1] - corner[0] - 2.5 * size
    size *= min(1.0, room / max(text_size(name, size)[0] + text_size(number, size)[0], 1))
    text(panel, name, corner, color, size)
    text(panel, number, (panel.shape[1] - text_size(number, size)[0] - 1.5 * size, corner[1]), color, size)


def _draw_line_styles(
    panel: np.ndarray,
    corner: tuple[float, float],
    step: float,
    size: float,
    lines: Sequence[tuple[str, int, tuple[float, float] | None]],
) -> float:
    """Draws a sample of each line (words, thickness, dashes); returns the end (v)."""
    left, y = corner
    for words, thick, dash_px in lines:
        ends = np.array([[[left, y + 0.4 * step], [left + 1.6 * step, y + 0.4 * step]]])
        stroke(panel, ends, _BRIGHT, thick, dash_px)
        text(panel, words, (left + 2.0 * step, y), _BRIGHT, size)
        y += step
    return y


def _rectangle(left: float, top: float, width: float, height: float) -> np.ndarray:
    right, low = left + width, top + height
    return np.array([[left, top], [right, top], [right, low], [left, low]])
