"""TuSimple's files: one JSON line an image, with the x of each lane in the rows of `h_samples`; without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, is_number
from perception3d.datasets.lane_files import IMAGE_SUFFIXES
from perception3d.datasets.lane_lists import require_inside
from perception3d.files import read_json_lines

Lane = npt.NDArray[np.float64]

SLOTS = ('left-3', 'left-2', 'left-1', 'right-1', 'right-2', 'right-3')
"""The six lanes of a mask, values 1 to 6, left to right; the middle two are the borders of the ego lane (`list6`)."""
MASK_FOLDER = 'segGT6'
LIST_FOLDER = 'list6'
LANE_WIDTH_PX = 16
ABSENT = -2
TRAIN_FILES = 'label_data_*.json'
VAL_FILE = 'label_data_0531.json'
"""Labels of 358 images; the other two files, 0313 and 0601, have 3268."""
TEST_FILES = ('test_label.json', 'test_tasks_0627.json')
"""Labels of the test, and the same images without lanes."""
# Rows of TuSimple's images, 720 high: 160, 170, .., 710.
_ROW_STEP, _FIRST_ROW, _NUM_STEPS = 10, 160, 72


@dataclass(frozen=True)
class LabelLine:
    """One line of a label file.

    Attributes:
        raw_file: path of the image relative to the root.
        h_samples: (M,) rows, stored pixels.
        lanes: x of each lane in each row, negative where it is absent; None where the line has no entry `lanes`.
        place: file and line, for errors.
    """

    raw_file: str
    h_samples: tuple[float, ...]
    lanes: tuple[tuple[float, ...], ...] | None
    place: str

    def polylines(self) -> list[Lane] | None:
        """Returns the points (M, 2) that each lane has, as annotated; M may be 0 or 1."""
        if self.lanes is None:
            return None
        return [
            np.array([(x, y) for x, y in zip(lane, self.h_samples) if x >= 0], np.float64).reshape(-1, 2)
            for lane in self.lanes
        ]


def read_labels(path: str | Path) -> list[LabelLine]:
    """Returns the lines of a label file.

    Raises:
        InputError: the file is missing or empty, a line is not JSON, lacks `raw_file` or `h_samples`, names a file out
            of the root or one twice, has no rows or rows that do not rise, or has a lane of another length than
            `h_samples`, or of other than finite numbers.
    """
    found: dict[str, LabelLine] = {}
    for place, entry in read_json_lines(path, 'unpack the labels of TuSimple into the folder of clips/'):
        line = _parse(entry, place)
        if line.raw_file in found:
            raise InputError(f'{place}: {line.raw_file} is already in {found[line.raw_file].place}: remove one')
        found[line.raw_file] = line
    return list(found.values())


def _parse(entry: Any, place: str) -> LabelLine:
    if not isinstance(entry, dict) or not isinstance(entry.get('raw_file'), str) or 'h_samples' not in entry:
        raise InputError(f'{place}: expected {{"raw_file": .., "lanes": [[..], ..], "h_samples": [..]}}')
    rows = require_numbers(entry['h_samples'], f'{place}: h_samples')
    if not rows or any(low >= high for low, high in zip(rows, rows[1:])):
        raise InputError(
            f'{place}: h_samples: expected one or more rows, each greater than the one before, got {str(rows)[:80]}'
        )
    lanes = entry.get('lanes')
    if lanes is not None:
        if not isinstance(lanes, list):
            raise InputError(f'{place}: lanes: expected a list of lanes')
        lanes = tuple(require_numbers(lane, f'{place}: lane {k}') for k, lane in enumerate(lanes))
        for k, lane in enumerate(lanes):
            if len(lane) != len(rows):
                raise InputError(f'{place}: lane {k} has {len(lane)} values: expected {len(rows)}, one for each row')
    raw_file = require_inside(entry['raw_file'], f'{place}: raw_file')
    return LabelLine(raw_file, rows, lanes, place)


def require_numbers(values: Any, place: str) -> tuple[float, ...]:
    """Returns the numbers of a JSON list; raises InputError if it holds anything else than finite ones."""
    if not isinstance(values, list) or not all(map(is_number, values)):
        raise InputError(f'{place}: expected a list of finite numbers, got {str(values)[:80]}')
    return tuple(map(float, values))


def default_rows(height: int) -> list[float]:
    """Returns the rows of an image without `h_samples`: 160, 170, .., 710 of 720, and the same shares of others.

    They are whole numbers, as in TuSimple's files, rounded down; a row of a low image is named once.
    """
    rows = (height * k // _NUM_STEPS for k in range(_FIRST_ROW // _ROW_STEP, _NUM_STEPS))
    return [float(row) for row in dict.fromkeys(rows)]


def sample_rows(lane: npt.NDArray[Any], h_samples: Sequence[float]) -> list[float]:
    """Returns x of a polyline (M, 2) in each row, -2 where it has none or is left of the image.

    Between two points x is that of the straight line, rounded to 1/100 pixel. A row at an end belongs to the lane. Of a
    lane that meets a row twice the point that comes first in order of y counts.
    """
    lane = np.asarray(lane, np.float64).reshape(-1, 2)
    if not len(lane):
        return [ABSENT] * len(h_samples)
    ordered = lane[np.argsort(lane[:, 1], kind='stable')]
    rows = np.asarray(h_samples, np.float64)
    x = np.interp(rows, ordered[:, 1], ordered[:, 0]).round(2)
    present = (rows >= ordered[0, 1]) & (rows <= ordered[-1, 1]) & (x >= 0)
    return [float(value) if has else ABSENT for value, has in zip(x.tolist(), present.tolist())]


def raw_file_of(sample: Mapping[str, Any]) -> str:
    """Returns the path of the image of a sample relative to the root: `frame_id`, with the suffix of `img_paths`.

    Without `img_paths`, and of a frame of a video, the suffix is '.jpg'.
    """
    paths = sample.get('img_paths') or ['']
    suffix = Path(paths[0]).suffix
    return f'{sample["frame_id"]}{suffix if suffix.lower() in IMAGE_SUFFIXES else ".jpg"}'


def format_line(
    raw_file: str, lanes: Iterable[npt.NDArray[Any]], h_samples: Sequence[float], run_time_ms: float = 0.0
) -> str:
    """Returns the JSON line of one image, with a line break: polylines (M, 2) in the rows of `h_samples`."""
    rows = [int(row) if float(row).is_integer() else float(row) for row in h_samples]
    entry = {
        'lanes': [sample_rows(lane, h_samples) for lane in lanes],
        'h_samples': rows,
        'raw_file': raw_file,
        'run_time': run_time_ms,
    }
    return json.dumps(entry) + '\n'
