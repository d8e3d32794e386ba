"""The text files of JRDB's detection benchmark: truth and results of a frame; errors name the line. No torch.

A line has 17 columns: type, truncated, occluded, num_points, alpha, x1 y1 x2 y2 (pixels of the stitched image), h w l
(m), x y z (m), rotation_y, score: KITTI's with `num_points`, and in truth a score too, which means nothing. Unknown
values are -1. Source: jrdb_toolkit, `detection_eval`.

The frame is that of the robot with KITTI's axes: x right, y down, z forward. Our boxes are in the robot's frame: x
forward, y left, z up. The toolkit writes the LENGTH of a box of JRDB into the column w and its width into l, and
rotation_y = -yaw: the same rectangle as KITTI's own reading of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, number_of_word
from perception3d.files import read_lines, write_whole
from perception3d.formats.kitti.files import Objects, objects_from_table, observation_angle, wrap_angle

PEDESTRIAN = 'Pedestrian'
"""The only type that counts."""
CAM_FROM_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""(4, 4): the frame of the text files from the robot's; both have one origin."""
UNKNOWN = -1
_COLUMNS = 17


@dataclass(frozen=True)
class FrameObjects:
    """The N objects of a frame: KITTI's fields (with scores, in truth too), and num_points (N,) int64, -1 unknown."""

    objects: Objects
    num_points: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.objects)

    def select(self, rows: npt.NDArray[Any]) -> FrameObjects:
        """Returns the objects of the rows (indices or mask)."""
        return FrameObjects(self.objects.select(rows), self.num_points[rows])


def read_frame(path: str | Path) -> FrameObjects:
    """Returns the objects of a truth or result file; an empty file has none.

    Raises InputError with file and line: another number of columns, a word where a number belongs, NaN or infinity.
    """
    path = Path(path)
    names, rows = [], []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != _COLUMNS:
            raise InputError(f'{path}, line {number}: {len(words)} columns, a line of JRDB has {_COLUMNS}')
        names.append(words[0])
        rows.append([_number(f'{path}, line {number}', word) for word in words[1:]])
    table = np.array(rows, np.float64).reshape(-1, _COLUMNS - 1)
    return FrameObjects(objects_from_table(names, np.delete(table, 2, axis=1), True), table[:, 2].astype(np.int64))


def _number(place: str, word: str) -> float:
    try:
        number = number_of_word(word)
    except ValueError:
        raise InputError(f'{place}: {word!r} is not a number') from None
    if not np.isfinite(number):
        raise InputError(f'{place}: {word} is not finite')
    return number


def write_frame(path: str | Path, frame: FrameObjects) -> None:
    """Writes a truth or result file; numbers keep six decimals, scores all digits. Truth without scores gets 1."""
    objects = frame.objects
    scores = np.ones(len(frame)) if objects.scores is None else objects.scores
    lines = []
    for i in range(len(frame)):
        numbers = [
            objects.alpha_rad[i],
            *objects.boxes_2d[i],
            *objects.sizes_m[i],
            *objects.bottom_centers_m[i],
            objects.rotation_y_rad[i],
        ]
        whole = f'{objects.truncated[i]:g} {objects.occluded[i]:d} {frame.num_points[i]:d}'
        text = ' '.join(f'{number:.6g}' if number == UNKNOWN else f'{number:.6f}' for number in numbers)
        lines.append(f'{objects.names[i]} {whole} {text} {float(scores[i])!r}\n')
    with write_whole(path) as temporary:
        temporary.write_text(''.join(lines), encoding='utf-8')


def boxes_of(objects: Objects) -> npt.NDArray[Any]:
    """Returns boxes (N, 7) in the robot's frame: x, y, z of the BOTTOM's middle, l, w, h, yaw from x to y."""
    places = objects.bottom_centers_m @ CAM_FROM_LIDAR[:3, :3]
    sizes = objects.sizes_m[:, [1, 2, 0]]
    return np.column_stack([places, sizes, wrap_angle(-objects.rotation_y_rad)]).reshape(-1, 7)


def frame_of_boxes(
    boxes: npt.NDArray[Any], scores: npt.NDArray[Any] | None = None, num_points: npt.NDArray[Any] | None = None
) -> FrameObjects:
    """Returns the pedestrians of a text file for boxes (N, >=7) in the robot's frame, without 2D boxes.

    Args:
        boxes: x, y, z of the bottom's middle, l, w, h, yaw.
        scores: (N,); None: 1.
        num_points: (N,) LiDAR points; None: unknown.
    """
    count = len(boxes)
    boxes = np.asarray(boxes, np.float64).reshape(count, np.shape(boxes)[-1])
    places = boxes[:, :3] @ CAM_FROM_LIDAR[:3, :3].T
    rotation = wrap_angle(-boxes[:, 6])
    unknown = np.full(count, UNKNOWN)
    objects = Objects(
        names=np.full(count, PEDESTRIAN, dtype='U32'),
        truncated=unknown.astype(np.float64),
        occluded=unknown,
        alpha_rad=observation_angle(places, rotation),
        boxes_2d=np.full((count, 4), float(UNKNOWN)),
        sizes_m=boxes[:, [5, 3, 4]],
        bottom_centers_m=places,
        rotation_y_rad=rotation,
        scores=np.ones(count) if scores is None else np.asarray(scores, np.float64),
    )
    return FrameObjects(objects, unknown if num_points is None else np.asarray(num_points, np.int64))


def require_result_file(path: str | Path) -> None:
    """Raises InputError where there is a file at `path` that is not one of this format: it would be lost."""
    if not Path(path).is_file():
        return
    try:
        read_frame(path)
    except InputError as error:
        raise InputError(f'{path} is not a result file and would be lost: choose another folder ({error})') from None
