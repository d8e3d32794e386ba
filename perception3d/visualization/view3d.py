"""A scene in space: as a picture from behind and above the ego vehicle, or in a window of Open3D.

The picture needs neither a display nor Open3D. The window needs both; Open3D is imported only for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.structures.frame import LidarAxes, SensorFrame
from perception3d.structures.primitives import Lines, Points, Polygons, Primitive, Raster, Texts
from perception3d.structures.sample import SampleStructures
from perception3d.structures.views import CameraView, View3D
from perception3d.visualization.bev import BACKGROUND, shade_by_height
from perception3d.visualization.canvas import stroke, text
from perception3d.visualization.draw import LEGEND_PX, Drawn, PictureStyle, draw_title, legend_of, prepare
from perception3d.visualization.paint import CanvasPainter, paint_squares
from perception3d.visualization.palette import label_colors

_LIBRARIES = 'libgl1 libusb-1.0-0 libx11-6 libgomp1'
_WINDOW_BACKGROUND = (0.08, 0.09, 0.11)
_GROUND_LINE = (78, 68, 60)
_EGO_LINE = (240, 240, 240)
# The virtual camera: metres behind the LiDAR and above it, the point ahead that it looks at, its vertical view.
_BEHIND_M, _ABOVE_M, _LOOK_AHEAD_M, _VIEW_RAD = 13.0, 9.0, 13.0, np.pi / 3
# The LiDAR is about so high above the road.
_GROUND_M = -1.8


def draw_scene(
    frame: SensorFrame,
    class_names: Sequence[str],
    structures: SampleStructures,
    title: str = '',
    notes: Sequence[str] = (),
    style: PictureStyle | None = None,
) -> np.ndarray:
    """Returns a picture of a scene as seen from behind and above the ego vehicle, with a legend.

    Arguments and errors are those of `draw.draw_sample`; the images of the frame are not drawn. Ground truth is drawn
    darker than predictions, and a cross marks the front of a box.
    """
    style = style or PictureStyle()
    drawn = prepare(frame, class_names, structures, notes, style)
    legend_px, width = round(LEGEND_PX * style.scale), style.width_px - round(LEGEND_PX * style.scale)
    height = round(width * 9 / 16)
    view = overhead_camera(frame.axes, width, height, style.scale)
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    for segments, color in _ground_lines(frame.axes):
        stroke(canvas, view.segments(segments)[0], color, 1)
    if frame.points is not None and len(frame.points):
        points = np.asarray(frame.points, np.float64)[:, :3]
        points = points[np.isfinite(points).all(axis=1)]
        pixels, kept = view.points(points)
        paint_squares(canvas, pixels, shade_by_height(points[kept, 2]), max(1, round(2 * style.scale)))
    painter = ProjectingPainter(canvas, view)
    for primitive in scene_primitives(drawn):
        primitive.paint_with(painter)
    text(canvas, '3D view, from behind the ego vehicle', (4, 4), height_px=9 * style.scale, plate=0.6)
    picture = np.concatenate([canvas, legend_of(drawn, legend_px, height, style.scale, in_3d=True)], axis=1)
    return np.concatenate([draw_title(title, style), picture], axis=0)


def show_scene(
    frame: SensorFrame,
    class_names: Sequence[str],
    structures: SampleStructures,
    title: str = 'perception3d',
) -> None:
    """Opens a window with a scene and returns when it is closed; arguments as of `draw_scene`. It shows no texts.

    Raises:
        InputError: Open3D or a display is missing.
    """
    require_display()
    open3d = open3d_module()
    shapes = WindowPainter(open3d)
    shapes.cloud(frame.points)
    for primitive in scene_primitives(prepare(frame, class_names, structures)):
        primitive.paint_with(shapes)
    window = open3d.visualization.Visualizer()
    if not window.create_window(title, 1280, 800):
        raise InputError('no window can be opened: set DISPLAY, or use --view 3d, which writes a picture')
    for shape in shapes.shapes:
        window.add_geometry(shape)
    window.get_render_option().background_color = np.array(_WINDOW_BACKGROUND)
    window.get_render_option().point_size = 2.0
    window.run()
    window.destroy_window()


def require_display() -> None:
    """Raises InputError where no window can be opened for want of a display."""
    if sys.platform == 'linux' and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise InputError('there is no display for a window: set DISPLAY, or use --view 3d, which writes a picture')


def open3d_module() -> ModuleType:
    """Returns Open3D.

    Raises:
        InputError: it is not installed, or a system library that it loads is missing; names the command.
    """
    try:
        import open3d
    except ModuleNotFoundError as error:
        if error.name != 'open3d':
            raise
        raise InputError('a 3D window needs Open3D: run `pip install open3d`') from error
    except (ImportError, OSError) as error:
        raise InputError(f'Open3D does not load ({error}): run `sudo apt-get install {_LIBRARIES}`') from error
    return open3d


def scene_primitives(drawn: Drawn) -> list[Primitive]:
    """Returns the primitives of all structures in metres of the LiDAR frame.

    Raises:
        InputError: the frame has images without a LiDAR.
    """
    if drawn.frame.has_images_alone:
        raise InputError('images without a LiDAR have no 3D view: draw them without --view 3d and without --window')
    view = View3D()
    return [primitive for style, structure in drawn.structures for primitive in structure.primitives(view, style)]


def overhead_camera(axes: LidarAxes, width_px: int, height_px: int, scale: float = 1.0) -> CameraView:
    """Returns the view of a camera behind and above the ego vehicle that looks ahead."""
    ahead = np.array([*axes.forward, 0.0])
    eye = -_BEHIND_M * ahead + [0, 0, _ABOVE_M]
    look = _LOOK_AHEAD_M * ahead + [0, 0, _GROUND_M] - eye
    look = look / np.linalg.norm(look)
    right = np.cross(look, [0, 0, 1.0])
    right = right / np.linalg.norm(right)
    rotation = np.array([right, np.cross(look, right), look])
    focal = height_px / 2 / np.tan(_VIEW_RAD / 2)
    intrinsics = np.array([[focal, 0, width_px / 2], [0, focal, height_px / 2], [0, 0, 1]])
    matrix = intrinsics @ np.column_stack([rotation, -rotation @ eye])
    return CameraView('3D', matrix, width_px, height_px, scale=scale)


class ProjectingPainter:
    """Paints primitives in metres on a picture, as a camera view sees them."""

    def __init__(self, canvas: np.ndarray, view: CameraView) -> None:
        self._painter, self._view = CanvasPainter(canvas), view

    def points(self, primitive: Points) -> None:
        """Paints points, far ones first."""
        pixels, kept = self._view.points(primitive.positions)
        self._painter.points(Points(primitive.labels[kept], primitive.classes, pixels, style=primitive.style))

    def lines(self, primitive: Lines) -> None:
        """Paints line segments, cut at the near plane."""
        segments, kept = self._view.segments(primitive.segments)
        self._painter.lines(Lines(primitive.labels[kept], primitive.classes, segments, style=primitive.style))

    def polygons(self, primitive: Polygons) -> None:
        """Paints filled polygons, cut at the near plane."""
        corners = [self._view.polygon(polygon) for polygon in primitive.corners]
        self._painter.polygons(Polygons(primitive.labels, primitive.classes, corners, style=primitive.style))

    def texts(self, primitive: Texts) -> None:
        """Writes the texts whose corner is in view."""
        pixels, kept = self._view.points(primitive.positions)
        texts = tuple(primitive.texts[k] for k in kept)
        self._painter.texts(Texts(primitive.labels[kept], primitive.classes, pixels, texts, style=primitive.style))

    def raster(self, primitive: Raster) -> None:
        """Refuses a raster, which is placed in pixels."""
        raise InputError('a raster cannot be drawn in a 3D view: give points')


class WindowPainter:
    """Collects the shapes of an Open3D window."""

    def __init__(self, open3d: Any) -> None:
        self._open3d = open3d
        self.shapes: list[Any] = []

    def cloud(self, points: np.ndarray | None) -> None:
        """Adds the points of the frame, (N, 3 or more) in metres, shaded by height."""
        xyz = np.zeros((0, 3)) if points is None else np.asarray(points, np.float64)[:, :3]
        xyz = xyz[np.isfinite(xyz).all(axis=1)]
        level = np.clip((xyz[:, 2:] + 2.5) / 5.0, 0, 1)
        self._add_points(xyz, 0.35 + 0.5 * level * np.ones(3))

    def points(self, primitive: Points) -> None:
        """Adds points."""
        self._add_points(primitive.positions, rgb_colors(primitive))

    def lines(self, primitive: Lines) -> None:
        """Adds line segments."""
        self._add_lines(primitive.segments, rgb_colors(primitive))

    def polygons(self, primitive: Polygons) -> None:
        """Adds the outlines of polygons."""
        outlines = [np.stack([corners, np.roll(corners, -1, axis=0)], axis=1) for corners in primitive.corners]
        if outlines:
            colors = np.repeat(rgb_colors(primitive), [len(outline) for outline in outlines], axis=0)
            self._add_lines(np.concatenate(outlines), colors)

    def texts(self, primitive: Texts) -> None:
        """Adds nothing: Open3D's window cannot draw text at a point."""

    def raster(self, primitive: Raster) -> None:
        """Refuses a raster, which is placed in pixels."""
        raise InputError('a raster cannot be drawn in a 3D view: give points')

    def _add_points(self, xyz: np.ndarray, colors: np.ndarray) -> None:
        vectors = self._open3d.utility.Vector3dVector
        cloud = self._open3d.geometry.PointCloud(vectors(np.ascontiguousarray(xyz, np.float64)))
        cloud.colors = vectors(np.ascontiguousarray(colors, np.float64))
        self.shapes.append(cloud)

    def _add_lines(self, segments: np.ndarray, colors: np.ndarray) -> None:
        vectors, pairs = self._open3d.utility.Vector3dVector, self._open3d.utility.Vector2iVector
        ends = np.arange(2 * len(segments), dtype=np.int32).reshape(-1, 2)
        lines = self._open3d.geometry.LineSet(vectors(np.ascontiguousarray(segments.reshape(-1, 3))), pairs(ends))
        lines.colors = vectors(np.ascontiguousarray(colors, np.float64))
        self.shapes.append(lines)


def rgb_colors(primitive: Primitive) -> np.ndarray:
    """Returns the colours of a primitive's elements, (N, 3) red, green, blue in 0..1."""
    colors = label_colors(primitive.labels, primitive.classes)
    return colors[:, ::-1].astype(np.float64) / 255 * primitive.style.brightness


def _ground_lines(axes: LidarAxes) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    """Rings of 10 m steps on the ground, and the outline of the ego vehicle: segments (N, 2, 3) with their colour."""
    angle = np.linspace(0, 2 * np.pi, 91)
    circle = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(91)])
    height = np.array([0, 0, _GROUND_M])
    rings = [radius * np.stack([circle[:-1], circle[1:]], axis=1) + height for radius in range(10, 51, 10)]
    (x, y), outline = axes.forward, np.array([[-2.0, -0.9], [1.3, -0.9], [2.3, 0], [1.3, 0.9], [-2.0, 0.9]])
    xy = outline @ np.array([[x, y], [-y, x]])
    corners = np.column_stack([xy, np.full(5, _GROUND_M)])
    ego = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    return [(np.concatenate(rings), _GROUND_LINE), (ego, _EGO_LINE)]
