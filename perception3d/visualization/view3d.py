"""A point cloud with boxes in a 3D window, or rendered off screen; needs Open3D, which is imported only here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.files import write_image
from perception3d.visualization.draw import BoxSet
from perception3d.visualization.palette import class_color
from perception3d.visualization.wireframe import EDGES, FRONT

_LIBRARIES = 'libgl1 libusb-1.0-0 libx11-6 libgomp1'
_BACKGROUND = (0.08, 0.09, 0.11)


def open3d_module() -> ModuleType:
    """Returns Open3D.

    Raises:
        InputError: it is not installed, or a system library that it loads is missing; says the command for each.
    """
    try:
        import open3d
    except ModuleNotFoundError as error:
        if error.name != 'open3d':
            raise
        raise InputError('3D views need Open3D: run `pip install open3d`') from error
    except (ImportError, OSError) as error:
        raise InputError(
            f'Open3D does not load ({error}): run `sudo apt-get install {_LIBRARIES}`, and mesa-vulkan-drivers to '
            'render without a display'
        ) from error
    return open3d


def show_scene(
    points: np.ndarray | None,
    class_names: Sequence[str],
    ground_truth: BoxSet | None = None,
    predictions: BoxSet | None = None,
    title: str = 'perception3d',
) -> None:
    """Opens a window with a scene and returns when it is closed; arguments as of `draw_sample`.

    Ground truth is drawn darker than predictions; a cross marks the front of a box.

    Raises:
        InputError: Open3D or a display is missing.
    """
    if sys.platform == 'linux' and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise InputError('there is no display for a window: set DISPLAY, or use render_scene, which writes a picture')
    open3d = open3d_module()
    shapes = [_cloud(open3d, points), *_line_sets(open3d, class_names, ground_truth, predictions)]
    window = open3d.visualization.Visualizer()
    if not window.create_window(title, 1280, 800):
        raise InputError('no window can be opened: set DISPLAY, or use render_scene, which writes a picture')
    for shape in shapes:
        window.add_geometry(shape)
    window.get_render_option().background_color = np.array(_BACKGROUND)
    window.get_render_option().point_size = 2.0
    window.run()
    window.destroy_window()


def render_scene(
    path: str | Path,
    points: np.ndarray | None,
    class_names: Sequence[str],
    ground_truth: BoxSet | None = None,
    predictions: BoxSet | None = None,
    size_px: tuple[int, int] = (1280, 800),
    eye_m: tuple[float, float, float] = (0.0, -28.0, 22.0),
) -> None:
    """Renders a scene off screen, seen from `eye_m` towards a point ahead of the vehicle, into a PNG or JPEG.

    Raises:
        InputError: Open3D, one of its libraries or a Vulkan driver is missing.
    """
    open3d = open3d_module()
    _require_renderer()
    rendering = open3d.visualization.rendering
    renderer = rendering.OffscreenRenderer(*size_px)
    renderer.scene.set_background([*_BACKGROUND, 1.0])
    # Tone mapping would change the colours that mean classes.
    renderer.scene.view.set_post_processing(False)
    cloud = _cloud(open3d, points)
    if cloud.has_points():
        renderer.scene.add_geometry('points', cloud, _material(rendering, 'defaultUnlit', 2.0))
    for number, lines in enumerate(_line_sets(open3d, class_names, ground_truth, predictions)):
        renderer.scene.add_geometry(f'boxes {number}', lines, _material(rendering, 'unlitLine', 2.0))
    renderer.setup_camera(60.0, [0.0, 12.0, 0.0], list(eye_m), [0.0, 0.0, 1.0])
    picture = np.asarray(renderer.render_to_image())
    write_image(path, np.ascontiguousarray(picture[..., ::-1]))


def _require_renderer() -> None:
    """Tries a renderer in a process of its own: without a Vulkan driver Open3D ends the process that asks for one."""
    attempt = 'import open3d; open3d.visualization.rendering.OffscreenRenderer(8, 8)'
    if subprocess.run([sys.executable, '-c', attempt], capture_output=True, check=False).returncode:
        raise InputError(
            f'Open3D cannot render off screen: run `sudo apt-get install mesa-vulkan-drivers {_LIBRARIES}`'
        )


def wire_lines(boxes: BoxSet, class_names: Sequence[str], brightness: float = 1.0) -> tuple[np.ndarray, ...]:
    """Returns the wireframes as points (8N, 3) in metres, index pairs (14N, 2) and RGB colours (14N, 3) in 0..1.

    Each box has its twelve edges and a cross on its front face.
    """
    pairs = np.concatenate([EDGES, FRONT[[[0, 2], [1, 3]]]])
    corners = boxes.corners
    indices = (np.arange(len(corners))[:, None, None] * 8 + pairs).reshape(-1, 2)
    names = [class_names[label] if 0 <= label < len(class_names) else 'other' for label in boxes.labels]
    colors = np.array([class_color(name)[::-1] for name in names], np.float64).reshape(-1, 3) / 255 * brightness
    return corners.reshape(-1, 3), indices, np.repeat(colors, len(pairs), axis=0)


def _line_sets(
    open3d: ModuleType, class_names: Sequence[str], ground_truth: BoxSet | None, predictions: BoxSet | None
) -> list:
    sets = []
    for boxes, brightness in ((ground_truth, 0.55), (predictions, 1.0)):
        if boxes is not None and len(boxes):
            points, indices, colors = wire_lines(boxes, class_names, brightness)
            lines = open3d.geometry.LineSet(
                open3d.utility.Vector3dVector(points), open3d.utility.Vector2iVector(indices.astype(np.int32))
            )
            lines.colors = open3d.utility.Vector3dVector(colors)
            sets.append(lines)
    return sets


def _cloud(open3d: ModuleType, points: np.ndarray | None) -> Any:
    xyz = np.zeros((0, 3)) if points is None else np.asarray(points, np.float64)[:, :3]
    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    level = np.clip((xyz[:, 2:] + 2.5) / 5.0, 0, 1)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
    cloud.colors = open3d.utility.Vector3dVector(0.35 + 0.5 * level * np.ones(3))
    return cloud


def _material(rendering: ModuleType, shader: str, size: float) -> Any:
    material = rendering.MaterialRecord()
    material.shader, material.point_size, material.line_width = shader, size, size
    return material
