"""Predicted people in STCrowd's result files: the layout of the annotations with scores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.evaluation.predictions import finite_boxes
from perception3d.formats.stcrowd.files import Frame, Person, Sequence, read_sequence, write_sequence


def people_of_boxes(
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    track_ids: Iterable[int] | None = None,
    yaw_sign: int = 1,
) -> tuple[Person, ...]:
    """Returns people of boxes (N, >=7) with the bottom's middle and scores (N,), with the ids of tracks, if there are.

    `yaw_sign` is that of the data: results and truth then turn the same way.
    """
    rows = np.asarray(boxes, np.float64).reshape(-1, np.shape(boxes)[-1])[:, :7].copy()
    rows[:, 2] += rows[:, 5] / 2
    ids = [None] * len(rows) if track_ids is None else [int(number) for number in track_ids]
    return tuple(
        Person(track_id, (x, y, z), (length, width, height), yaw_sign * yaw, None, float(score))
        for (x, y, z, length, width, height, yaw), score, track_id in zip(rows.tolist(), scores, ids, strict=True)
    )


def frame_of_sample(sample: Any, yaw_sign: int = 1) -> Frame:
    """Returns the result of a sample: its boxes, all of them, since a tracker reports people only after some frames.

    Tracks have files of their own. The number of the frame is the one in its token, 0 in that of a raw file.
    """
    token = str(sample.get('token') or '')
    found = finite_boxes(sample.get('pred_instances_3d'), token)
    people = people_of_boxes(found.boxes, found.scores, None, yaw_sign)
    number = token.rpartition('_')[2]
    is_number = '_' in token and number.isdecimal()
    return Frame(int(number) if is_number else 0, str(sample.get('lidar_path') or ''), people)


def write_frame(path: str | Path, sample: Any, yaw_sign: int = 1) -> None:
    """Writes the result file of one sample.

    Raises:
        InputError: there is another file at `path`, such as annotations: it would be lost.
    """
    path = Path(path)
    if path.is_file():
        try:
            read_sequence(path, scored=True)
        except InputError as error:
            raise InputError(
                f'{path} is not a result file and would be lost: choose another folder ({error})'
            ) from None
    name = str(sample.get('scene_token') or path.stem)
    write_sequence(path, Sequence(name, (frame_of_sample(sample, yaw_sign),)))
