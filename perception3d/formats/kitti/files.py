"""The text files of KITTI's object benchmark: labels, results and calibrations, read with errors that name the line.

Formats: the readme of the KITTI object development kit (Geiger et al. 2012). Label line: type, truncated, occluded,
alpha, x1 y1 x2 y2 (pixels), h w l (m), x y z (m), rotation_y, all in the rectified frame of camera 0: x right, y down,
z forward, (x, y, z) the middle of the bottom face. A result line ends with a score.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, number_of_word, require_file
from perception3d.files import read_lines, write_whole

_LABEL_COLUMNS, _RESULT_COLUMNS = 15, 16
_CALIBRATION_KEYS = {'P0': 12, 'P1': 12, 'P2': 12, 'P3': 12, 'R0_rect': 9, 'Tr_velo_to_cam': 12}
_ROUNDING = 0.02


@dataclass(frozen=True)
class Objects:
    """The N objects of one frame, as the file has them.

    names (N,) strings; truncated (N,) 0..1 or -1; occluded (N,) 0..3 or -1; alpha_rad (N,); boxes_2d (N, 4) x1 y1 x2 y2
    in pixels; sizes_m (N, 3) height, width, length; bottom_centers_m (N, 3) middle of the bottom face in the rectified
    camera frame; rotation_y_rad (N,); scores (N,) or None for labels. All float64 but `names` and `occluded`.
    """

    names: npt.NDArray[Any]
    truncated: npt.NDArray[Any]
    occluded: npt.NDArray[Any]
    alpha_rad: npt.NDArray[Any]
    boxes_2d: npt.NDArray[Any]
    sizes_m: npt.NDArray[Any]
    bottom_centers_m: npt.NDArray[Any]
    rotation_y_rad: npt.NDArray[Any]
    scores: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: npt.NDArray[Any]) -> Objects:
        """Returns the objects of the rows (indices or mask)."""
        selected: dict[str, Any] = {key: None if value is None else value[rows] for key, value in vars(self).items()}
        return replace(self, **selected)


def objects_from_table(names: list[str], table: npt.NDArray[Any], scored: bool) -> Objects:
    """Returns objects from type names and the numbers behind them, (N, 14) or with a score (N, 15)."""
    table = np.asarray(table, np.float64).reshape(len(names), 15 if scored else 14)
    return Objects(
        names=np.array(names, dtype='U32').reshape(-1),
        truncated=table[:, 0],
        occluded=table[:, 1].astype(np.int64),
        alpha_rad=table[:, 2],
        boxes_2d=table[:, 3:7],
        sizes_m=table[:, 7:10],
        bottom_centers_m=table[:, 10:13],
        rotation_y_rad=table[:, 13],
        scores=table[:, 14] if scored else None,
    )


def read_objects(path: str | Path, scored: bool = False) -> Objects:
    """Returns the objects of a label file, or of a result file if `scored`; an empty file has none.

    Raises InputError with file and line: another number of columns, a word where a number belongs, NaN or infinity.
    """
    path = require_file(path)
    wanted = _RESULT_COLUMNS if scored else _LABEL_COLUMNS
    names: list[str] = []
    numbers: list[float] = []
    try:
        for line in _lines(path):
            words = line.split()
            if not words:
                continue
            if len(words) != wanted:
                raise ValueError
            names.append(words[0])
            numbers.extend(map(number_of_word, words[1:]))
        table = np.array(numbers, np.float64).reshape(-1, wanted - 1)
        if not np.isfinite(table).all():
            raise ValueError
    except ValueError:
        raise InputError(_first_bad_line(path, wanted, scored)) from None
    return objects_from_table(names, table, scored)


def _lines(path: Path) -> list[str]:
    """Returns the lines of an ASCII file, with or without a byte-order mark; UnicodeDecodeError for another file."""
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode('ascii')
    # Not splitlines, see `files.read_lines`.
    return text.replace('\r\n', '\n').replace('\r', '\n').split('\n')


def require_result_file(path: str | Path) -> None:
    """Raises InputError where there is a file at `path` that is not a result file, such as labels: it would be lost."""
    if not Path(path).is_file():
        return
    try:
        read_objects(path, scored=True)
    except InputError as error:
        raise InputError(f'{path} is not a result file and would be lost: choose another folder ({error})') from None


def image_hw(path: str | Path) -> tuple[int, int]:
    """Returns (height, width) of a PNG image from its header; InputError where it is not one."""
    from PIL import Image

    try:
        with Image.open(require_file(path), formats=('PNG',)) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InputError(f'{path} is not a PNG image: it is damaged, copy or download it again') from None
    return height, width


def line_of(path: Path, row: int) -> int:
    """Returns the number of the line that holds object `row`, as `read_objects` counts: blank lines hold none."""
    lines = _lines(path)
    return [number for number, line in enumerate(lines, start=1) if line.split()][row]


def _first_bad_line(path: Path, wanted: int, scored: bool) -> str:
    """Says what is wrong with the first line of `path` that cannot be read."""
    try:
        lines = _lines(path)
    except UnicodeDecodeError:
        return f'{path} is not a text file'
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != wanted:
            form = 'result' if scored else 'label'
            return f'{path}, line {number}: {len(words)} columns, a {form} line has {wanted}'
        for word in words[1:]:
            try:
                fine = np.isfinite(number_of_word(word))
            except ValueError:
                return f'{path}, line {number}: {word!r} is not a number'
            if not fine:
                return f'{path}, line {number}: {word} is not finite'
    return f'{path} cannot be read'


def write_objects(path: str | Path, objects: Objects) -> None:
    """Writes a label file, or a result file if there are scores, with the benchmark's two decimals (scores: four)."""
    lines = []
    for i in range(len(objects)):
        numbers = [
            objects.alpha_rad[i],
            *objects.boxes_2d[i],
            *objects.sizes_m[i],
            *objects.bottom_centers_m[i],
            objects.rotation_y_rad[i],
        ]
        text = f'{objects.names[i]} {objects.truncated[i]:.2f} {objects.occluded[i]:d} '
        text += ' '.join(f'{number:.2f}' for number in numbers)
        lines.append(text if objects.scores is None else f'{text} {objects.scores[i]:.4f}')
    with write_whole(path) as temporary:
        temporary.write_text(''.join(f'{line}\n' for line in lines), encoding='ascii')


@dataclass(frozen=True)
class Calibration:
    """The matrices of one frame: projections P0..P3 (3, 4), R0_rect (3, 3), Tr_velo_to_cam (3, 4), float64."""

    projections: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
    rectification: npt.NDArray[Any]
    cam0_from_lidar_3x4: npt.NDArray[Any]

    def cam_from_lidar(self) -> npt.NDArray[Any]:
        """Returns (4, 4): rectified camera 0 from the LiDAR."""
        rectify, move = np.eye(4), np.eye(4)
        rectify[:3, :3], move[:3] = self.rectification, self.cam0_from_lidar_3x4
        return rectify @ move

    def img_from_cam(self, camera: int = 2) -> npt.NDArray[Any]:
        """Returns (4, 4): pixels of a camera (times depth) from rectified camera 0; camera 2 is the left colour one."""
        matrix = np.eye(4)
        matrix[:3] = self.projections[camera]
        return matrix


def read_calibration(path: str | Path) -> Calibration:
    """Returns the calibration of a frame; InputError names the file, and the matrix that is missing or malformed."""
    path = require_file(path)
    found: dict[str, npt.NDArray[Any]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        key, colon, rest = line.partition(':')
        size = _CALIBRATION_KEYS.get(key.strip())
        if not colon or size is None:
            continue
        try:
            values = np.array([number_of_word(word) for word in rest.split()])
        except ValueError:
            raise InputError(f'{path}, line {number}: {key} holds a word that is not a number') from None
        if len(values) != size or not np.isfinite(values).all():
            raise InputError(f'{path}, line {number}: {key} has {len(values)} values, expected {size} finite ones')
        if key.strip() in found:
            raise InputError(f'{path}, line {number}: a second {key.strip()}: remove one')
        found[key.strip()] = values
    missing = [key for key in _CALIBRATION_KEYS if key not in found]
    if missing:
        raise InputError(f'{path} has no {", ".join(missing)}: every frame needs P0 to P3, R0_rect and Tr_velo_to_cam')
    _require_possible(path, found)
    first, second, third, fourth = (found[f'P{k}'].reshape(3, 4) for k in range(4))
    return Calibration(
        (first, second, third, fourth), found['R0_rect'].reshape(3, 3), found['Tr_velo_to_cam'].reshape(3, 4)
    )


def _require_possible(path: Path, found: dict[str, npt.NDArray[Any]]) -> None:
    """Raises InputError unless the matrices that boxes and points go through can be what their names say.

    P0, P1 and P3 are not used, and data sets with one camera fill them with zeros. The benchmark's own rotations are
    orthonormal to seven digits; those of others are rounded to fewer.
    """
    camera = found['P2'].reshape(3, 4)
    if min(camera[0, 0], camera[1, 1], camera[2, 2]) <= 0:
        raise InputError(f'{path}: P2 is no projection of a camera: its focal lengths and its last row must be above 0')
    for key, width in (('R0_rect', 3), ('Tr_velo_to_cam', 4)):
        turn = found[key].reshape(3, width)[:, :3]
        if np.abs(turn @ turn.T - np.eye(3)).max() > _ROUNDING or np.linalg.det(turn) < 0:
            raise InputError(f'{path}: the left 3 x 3 of {key} is not a rotation: its rows must be orthonormal')


def write_calibration(path: str | Path, calibration: Calibration) -> None:
    """Writes a calibration file with all the keys of the benchmark; Tr_imu_to_velo is the identity."""
    rows = {f'P{k}': matrix for k, matrix in enumerate(calibration.projections)}
    rows['R0_rect'] = calibration.rectification
    rows['Tr_velo_to_cam'] = calibration.cam0_from_lidar_3x4
    rows['Tr_imu_to_velo'] = np.eye(4)[:3]
    lines = [f'{key}: ' + ' '.join(f'{value:.12e}' for value in matrix.ravel()) for key, matrix in rows.items()]
    with write_whole(path) as temporary:
        temporary.write_text('\n'.join(lines) + '\n', encoding='ascii')


def wrap_angle(angle_rad: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns angles in [-pi, pi)."""
    wrapped: npt.NDArray[Any] = angle_rad - np.floor(angle_rad / (2 * np.pi) + 0.5) * 2 * np.pi
    return wrapped


def boxes_lidar_from_camera(objects: Objects, lidar_from_cam: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns boxes (N, 7) in the LiDAR frame: x, y, z of the bottom's middle, l, w, h, yaw (mmdet3d >= 1.0)."""
    places = objects.bottom_centers_m @ lidar_from_cam[:3, :3].T + lidar_from_cam[:3, 3]
    yaw = wrap_angle(-objects.rotation_y_rad - np.pi / 2)
    return np.column_stack([places, objects.sizes_m[:, [2, 1, 0]], yaw]).reshape(-1, 7)


def camera_fields_from_lidar(
    boxes: npt.NDArray[Any], cam_from_lidar: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns sizes_m (N, 3), bottom_centers_m (N, 3) and rotation_y_rad (N,) of boxes (N, 7) in the LiDAR frame."""
    places = boxes[:, :3] @ cam_from_lidar[:3, :3].T + cam_from_lidar[:3, 3]
    return boxes[:, [5, 4, 3]], places, wrap_angle(-boxes[:, 6] - np.pi / 2)


def camera_corners(
    sizes_m: npt.NDArray[Any], bottom_centers_m: npt.NDArray[Any], rotation_y_rad: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Returns the corners (N, 8, 3) of boxes in the camera frame; the first four are the bottom (y down)."""
    height, width, length = sizes_m[:, 0, None], sizes_m[:, 1, None], sizes_m[:, 2, None]
    x = length * np.array([0.5, 0.5, -0.5, -0.5] * 2)
    z = width * np.array([0.5, -0.5, -0.5, 0.5] * 2)
    y = height * np.array([0.0] * 4 + [-1.0] * 4)
    cos, sin = np.cos(rotation_y_rad)[:, None], np.sin(rotation_y_rad)[:, None]
    corners: npt.NDArray[Any] = np.stack([cos * x + sin * z, y, cos * z - sin * x], -1) + bottom_centers_m[:, None]
    return corners


def observation_angle(bottom_centers_m: npt.NDArray[Any], rotation_y_rad: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns alpha (N,): the heading relative to the ray from the camera."""
    return wrap_angle(rotation_y_rad - np.arctan2(bottom_centers_m[:, 0], bottom_centers_m[:, 2]))
