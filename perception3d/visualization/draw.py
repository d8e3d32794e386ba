"""One picture of one sample: a sensor frame and its structures in, a BGR picture out. No display, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

import numpy as np

from perception3d.checks import InputError
from perception3d.structures.base import Structure
from perception3d.structures.frame import Y_FORWARD, SensorFrame
from perception3d.structures.primitives import StructureStyle
from perception3d.structures.sample import SampleStructures, resolve
from perception3d.visualization.bev import BACKGROUND, draw_background
from perception3d.visualization.canvas import text
from perception3d.visualization.layout import GAP, fit_images
from perception3d.visualization.legend import draw_legend
from perception3d.visualization.paint import paint
from perception3d.visualization.palette import OTHER
from perception3d.visualization.panels import draw_image_panels, draw_panels
from perception3d.visualization.windows import Panel, camera_view, fitted_panels, range_view, square_panels

LEGEND_PX = 232
# Height of a range view, for 64 rows of points that touch each other.
RANGE_PX = 192


@dataclass(frozen=True)
class PictureStyle:
    """Sizes of a picture, and how ground truth and predictions are drawn.

    Attributes:
        width_px: width of the whole picture; everything scales with it.
        max_camera_height_px: no camera image gets higher than this share of the width, in pixels at 1920.
        range_m: half the side of the wide BEV view in the nuScenes frame.
        zoom_m: half the side of the near one.
        ground_truth: dashed lines, tinted footprints, darker in 3D.
        prediction: solid lines.
        match_distance_m: draws a further BEV panel in which predictions closer than this to an annotated object are
            true positives, other ones false, and the rest of the objects missed; None: it is left out.
    """

    width_px: int = 1920
    max_camera_height_px: int = 540
    range_m: float = 51.2
    zoom_m: float = 20.0
    ground_truth: StructureStyle = field(default_factory=lambda: StructureStyle(2, (7.0, 5.0), 0.22, 0.25, 0.55))
    prediction: StructureStyle = field(default_factory=lambda: StructureStyle(2, None, 0.12))
    match_distance_m: float | None = None

    def __post_init__(self) -> None:
        if self.width_px < 320:
            raise InputError(f'a picture {self.width_px} pixels wide has no room for its parts: ask for 320 or more')
        if min(self.range_m, self.zoom_m) <= 0:
            raise InputError(f'a BEV view of {min(self.range_m, self.zoom_m)} m shows nothing: give more than 0')
        if self.match_distance_m is not None and not self.match_distance_m > 0:
            raise InputError(f'match_distance_m of a picture is {self.match_distance_m}: give metres, more than 0')

    @property
    def scale(self) -> float:
        """Size of text relative to a picture 1920 pixels wide."""
        return self.width_px / 1920


@dataclass(frozen=True)
class Drawn:
    """What a picture shows of a sample: its frame, class names, structures ready for drawing, and notes.

    Attributes:
        frame: images, points, matrices, axes.
        class_names: of the data set.
        sources: (style, structures or None) of ground truth and of predictions, in the order in which they are painted.
        notes: short lines for the legend.
        matches: words and structure of predictions next to the truth, see `Structure.matched`.
    """

    frame: SensorFrame
    class_names: tuple[str, ...]
    sources: tuple[tuple[StructureStyle, tuple[Structure, ...] | None], ...]
    notes: tuple[str, ...] = ()
    matches: tuple[tuple[str, Structure], ...] = ()

    @property
    def structures(self) -> list[tuple[StructureStyle, Structure]]:
        """Every structure with the style of its source."""
        return [(style, one) for style, structures in self.sources for one in structures or ()]


def prepare(
    frame: SensorFrame,
    class_names: Sequence[str],
    structures: SampleStructures,
    notes: Sequence[str] = (),
    style: PictureStyle | None = None,
) -> Drawn:
    """Gives structures their class names and points, leaves out what is not finite, and notes how much that was.

    Of predictions remains what is drawn over the ground truth, such as the wrong ones of point labels.

    Raises:
        InputError: a structure does not fit the frame.
    """
    style = style or PictureStyle()
    sources, left_out = [], 0
    truth: list[Structure] = []
    for look, carried in ((style.ground_truth, structures.ground_truth), (style.prediction, structures.predictions)):
        kept: list[Structure] = []
        for structure in resolve(carried, class_names) or ():
            finite, count = structure.for_frame(frame).drawable()
            kept.append(finite.against(truth))
            left_out += count
        matches = _matches(kept, truth, style.match_distance_m)
        truth = kept
        kept = [one.beside([other for other in kept if other is not one]) for one in kept]
        sources.append((look, None if carried is None else tuple(kept)))
    if left_out:
        notes = [*notes, f'{left_out} boxes not finite: left out']
    return Drawn(frame, tuple(class_names), tuple(sources), tuple(notes), matches)


def _matches(
    predictions: Sequence[Structure], truth: Sequence[Structure], distance_m: float | None
) -> tuple[tuple[str, Structure], ...]:
    """Returns words and structure of the predictions that have objects, matched with the truth."""
    if distance_m is None:
        return ()
    found = [one.matched(truth, distance_m) for one in predictions]
    return tuple((f'within {distance_m:g} m', one) for one in found if one is not None)


def draw_sample(
    frame: SensorFrame,
    class_names: Sequence[str],
    structures: SampleStructures,
    title: str = '',
    notes: Sequence[str] = (),
    style: PictureStyle | None = None,
) -> np.ndarray:
    """Draws the cameras, BEV views and a legend, with everything that a sample carries.

    Below are panels of the same ground: predictions next to the truth (`PictureStyle.match_distance_m`), and maps.
    Without camera images, labelled points are drawn in a range view: one of the truth, one of the prediction. Images
    without a LiDAR have no BEV views: the legend is next to them, and maps over them are in panels below.

    Args:
        frame: camera images (any number, none leaves them out) with their matrices, points, axes of the LiDAR frame.
        class_names: K names of the data set; colours and legend follow them.
        structures: ground truth, drawn dashed, and predictions, drawn solid with their scores. None: there is
            no annotation, or nothing was predicted; the legend then leaves that source out.
        title: one line on top.
        notes: short lines below the legend.
        style: sizes.

    Returns:
        (H, `style.width_px`, 3) uint8 BGR.

    Raises:
        InputError: a structure does not fit the frame.
    """
    style = style or PictureStyle()
    drawn = prepare(frame, class_names, structures, notes, style)
    parts = [draw_title(title, style)]
    if frame.has_images_alone:
        image_maps = [each for _, structure in drawn.structures for each in structure.image_maps()]
        parts += [_draw_images_alone(drawn, style), *draw_image_panels(frame, image_maps, style.width_px, style.scale)]
        return np.concatenate(parts, axis=0)
    parts += [draw_cameras(drawn, style)] if frame.images else _draw_range_views(drawn, style)
    parts.append(_draw_bev_row(drawn, style))
    truth, predictions = (structures or () for _, structures in drawn.sources)
    maps = [each for _, structure in drawn.structures for each in structure.maps()]
    panels = draw_panels(frame, truth or predictions, maps, drawn.matches, style.width_px, style.scale)
    parts += [] if panels is None else [panels]
    return np.concatenate(parts, axis=0)


def title_line(token: str = '', scene: str = '', time_s: float | None = None, extra: str = '') -> str:
    """Returns the words of a title: sample token, scene, time in UTC and seconds, and anything else, where known."""
    parts = [f'sample {token}' if token else '', f'scene {scene}' if scene else '']
    if time_s is not None and np.isfinite(time_s):
        # Simulated worlds count from zero; a date in 1970 would mislead.
        date = datetime.fromtimestamp(round(float(time_s), 3), tz=timezone.utc)
        parts.append(f'{date:%Y-%m-%d %H:%M:%S} UTC' if time_s > 1e8 else '')
        parts.append(f'{time_s:.3f} s')
    return '   '.join(part for part in [*parts, extra] if part)


def draw_title(title: str, style: PictureStyle) -> np.ndarray:
    """Returns the bar on top of a picture."""
    bar = np.full((round(34 * style.scale), style.width_px, 3), GAP, np.uint8)
    text(bar, title, (8 * style.scale, 7 * style.scale), height_px=11 * style.scale)
    return bar


def legend_of(drawn: Drawn, width_px: int, height_px: int, scale: float, in_3d: bool = False) -> np.ndarray:
    """Returns the column that explains colours and lines, with the number of objects of each class.

    A view `in_3d` has neither front faces nor arrows of motion.
    """
    counts = [None if structures is None else _count(structures) for _, structures in drawn.sources]
    known = [count for count in counts if count is not None]
    names = list(drawn.class_names)
    if any(count.get(OTHER) for count in known):
        names.append(OTHER)
    # Classes of point labels, lanes and the like follow those of the data set.
    names += dict.fromkeys(name for count in known for name in count if name not in (*names, OTHER))
    rows = [None if count is None else np.array([count.get(name, 0) for name in names]) for count in counts]
    structures = [structure for _, structure in drawn.structures]
    # Data without velocities has no arrows to be explained.
    with_motion = not structures or any(structure.has_motion for structure in structures)
    with_fronts = not structures or any(structure.has_fronts for structure in structures)
    marks = () if in_3d else ('fronts',) * with_fronts + ('motion',) * with_motion
    if not structures or any(structure.has_outlines for structure in structures):
        marks = ('outlines', *marks)
    return draw_legend(width_px, height_px, names, rows, drawn.notes, scale, marks)


def draw_cameras(drawn: Drawn, style: PictureStyle) -> np.ndarray:
    """Draws the grid of camera images of `draw_sample`: (H, `style.width_px`, 3) uint8 BGR."""
    return _draw_grid(drawn, style.width_px, round(style.max_camera_height_px * style.scale), style.scale)


def _draw_grid(drawn: Drawn, width_px: int, limit_px: int, text_scale: float) -> np.ndarray:
    """The images in a grid `width_px` wide, none higher than `limit_px`."""
    images: Mapping[str, np.ndarray] = drawn.frame.images
    scaled, scales, corners, (width, height) = fit_images(images, width_px, limit_px)
    grid = np.full((height, width, 3), GAP, np.uint8)
    for name, image in scaled.items():
        view = camera_view(drawn.frame, name, image, scales[name], text_scale)
        for look, structure in drawn.structures:
            paint(image, structure.primitives(view, look))
        rows, cols = images[name].shape[:2]
        text(image, f'{name}  {cols} x {rows}', (4, 4), height_px=9 * text_scale, plate=0.6)
        left, top = corners[name]
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    return grid


def _draw_images_alone(drawn: Drawn, style: PictureStyle) -> np.ndarray:
    """The images of a frame without a LiDAR, as large as they fit, the legend to their right."""
    legend_px = round(LEGEND_PX * style.scale)
    # Nothing is below them, so their height is limited by that of the picture alone.
    images = _draw_grid(drawn, style.width_px - legend_px, style.width_px, style.scale)
    height = max(len(images), legend_px)
    picture = np.full((height, style.width_px, 3), GAP, np.uint8)
    picture[: len(images), : images.shape[1]] = images
    picture[:, images.shape[1] :] = legend_of(drawn, legend_px, height, style.scale)
    return picture


def _draw_range_views(drawn: Drawn, style: PictureStyle) -> list[np.ndarray]:
    """A range view, with a gap below it, for each source that has labelled points."""
    strips = []
    names = ('ground truth', 'prediction')
    for name, (look, structures) in zip(names, drawn.sources, strict=True):
        labelled = [structure for structure in structures or () if structure.has_points]
        if not labelled:
            continue
        view, words = range_view(drawn.frame.axes, drawn.frame.points, style.width_px, round(RANGE_PX * style.scale))
        strip = np.full((*view.image.shape, 3), BACKGROUND, np.uint8)
        for structure in labelled:
            paint(strip, structure.primitives(view, look))
        text(strip, f'{name}, {words}', (4, 4), height_px=9 * style.scale, plate=0.6)
        strips += [strip, np.full((max(2, round(4 * style.scale)), style.width_px, 3), GAP, np.uint8)]
    return strips


def _draw_bev_row(drawn: Drawn, style: PictureStyle) -> np.ndarray:
    gap = max(2, round(4 * style.scale))
    parts = []
    for panel in _panels(drawn, style, round(LEGEND_PX * style.scale), gap):
        view = replace(panel.view, scale=style.scale)
        picture = draw_background(view, drawn.frame.points, style.scale, panel.point_px)
        for look, structure in drawn.structures:
            paint(picture, structure.primitives(view, look))
        text(picture, panel.caption, (4, 4), height_px=9 * style.scale, plate=0.6)
        parts += [picture, np.full((len(picture), gap, 3), GAP, np.uint8)]
    rest = style.width_px - sum(part.shape[1] for part in parts)
    parts.append(legend_of(drawn, rest, len(parts[0]), style.scale))
    return np.concatenate(parts, axis=1)


def _panels(drawn: Drawn, style: PictureStyle, legend_px: int, gap_px: int) -> list[Panel]:
    axes, points = drawn.frame.axes, drawn.frame.points
    side = (style.width_px - legend_px - 2 * gap_px) // 2
    if axes.forward == Y_FORWARD.forward:
        return square_panels((style.range_m, style.zoom_m), side)
    footprints = np.concatenate([np.zeros((0, 2)), *(one.footprints() for _, one in drawn.structures)])
    width = style.width_px - legend_px - gap_px
    return fitted_panels(axes, points, footprints, width, side, gap_px, style.range_m)


def _count(structures: Sequence[Structure]) -> dict[str, int]:
    """The number of objects by class name; classes without any are left out."""
    total: dict[str, int] = {}
    for structure in structures:
        for name, count in zip((*structure.classes, OTHER), structure.counts().tolist()):
            if count:
                total[name] = total.get(name, 0) + count
    return total
