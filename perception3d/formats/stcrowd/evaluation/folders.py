"""STCrowd's scores of a folder of result files; no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError, require_folder
from perception3d.evaluation.crowd_frames import CrowdFrame, Predictions
from perception3d.evaluation.crowd_options import CrowdOptions
from perception3d.evaluation.crowd_report import table
from perception3d.evaluation.crowd_scores import score_crowds
from perception3d.formats.stcrowd.evaluation.truth import Reading, Truth, annotation_folder, read_truth, sequence_files
from perception3d.formats.stcrowd.files import Frame, Person, Sequence, read_sequence

TRACKS = 'tracks'
"""Folder of the results of a tracker, next to those of the detector."""


def evaluate_folders(
    gt: str | Path,
    pred: str | Path,
    options: CrowdOptions | None = None,
    reading: Reading | None = None,
) -> tuple[dict[str, Any], str]:
    """Returns the scores, see `evaluation.crowd_scores.score_crowds`, and the table to print.

    Sequences that have a result file are scored, with all of their frames: a frame that the file lacks has no
    predictions. Ignored are those whom `rules.ignore_reason` names. Where it is not known how many LiDAR points people
    have, see `truth.Reading`, nobody is ignored for few points, and recall by points is None.

    Args:
        gt: folder of `SEQUENCE.json`, or one with `anno/`; or an info file.
        pred: folder of `SEQUENCE.json` with `score` for each item, or one with `anno/`. Tracks are the items with an
            `id`, or those of `tracks/SEQUENCE.json` where there is this folder.
        options: settings of the metric.
        reading: how annotations are read.

    Raises:
        InputError: a file is missing or cannot be used, there is nothing to score, or results are of sequences or
            frames that are not annotated.
    """
    options = options or CrowdOptions()
    found = sequence_files(
        annotation_folder(require_folder(pred)), 'give --pred the folder of SEQUENCE.json with results'
    )
    results = {name: read_sequence(path, scored=True) for name, path in found.items()}
    tracked = _tracks(require_folder(pred), results)
    truth, known = read_truth(Path(gt), sorted(results), options, reading or Reading())
    frames: list[CrowdFrame] = []
    lacking = 0
    for name, annotated in truth.items():
        own = _frames_of(found[name], results[name], annotated)
        tracks = None if tracked is None else _frames_of(found[name], tracked.get(name), annotated)
        lacking += len(annotated) - len(own)
        for number in sorted(annotated):
            boxes = Predictions(np.zeros((0, 3)), np.zeros(0)) if tracks is not None else None
            frames.append(
                CrowdFrame(
                    name,
                    annotated[number],
                    predictions_of(own[number].people if number in own else ()),
                    predictions_of(tracks[number].people, True) if tracks and number in tracks else boxes,
                )
            )
    result = score_crowds(frames, options)
    if lacking:
        result.notes.append(f'{lacking} of {len(frames)} frames have no results: they count as without predictions')
    if known > len(truth):
        result.notes.append(f'{known - len(truth)} annotated sequences have no result file and are not scored')
    scores = {**result.scores, 'notes': result.notes} if result.notes else result.scores
    return scores, '\n'.join(['STCrowd, percent', table(result)])


def predictions_of(people: Iterable[Person], with_ids: bool = False) -> Predictions:
    """Returns the people of a result, with `with_ids` those alone who have an id, with it."""
    own = [person for person in people if person.track_id is not None or not with_ids]
    return Predictions(
        np.array([person.center_m for person in own]),
        np.array([person.score for person in own], np.float64),
        np.array([person.track_id for person in own], np.int64) if with_ids else None,
    )


def _tracks(pred: Path, results: dict[str, Sequence]) -> dict[str, Sequence] | None:
    """Returns the results with tracks by sequence; None where nothing was tracked."""
    if (pred / TRACKS).is_dir():
        files = sequence_files(pred / TRACKS, 'remove the folder where nothing was tracked')
        return {name: read_sequence(path, scored=True) for name, path in files.items()}
    has_ids = any(p.track_id is not None for part in results.values() for frame in part.frames for p in frame.people)
    return results if has_ids else None


def _frames_of(path: Path, results: Sequence | None, annotated: Truth) -> dict[int, Frame]:
    """Returns the results by the number of the frame; InputError for one that is not annotated."""
    frames = {frame.frame_id: frame for frame in results.frames} if results else {}
    for number in frames:
        if number not in annotated:
            raise InputError(f'{path} has frame {number}, which is not annotated: give results of the same frames')
    return frames
