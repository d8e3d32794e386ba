"""Scores of a file of JSON lines by CULane's rule; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from perception3d.checks import InputError
from perception3d.datasets.frame_building import map_frames
from perception3d.evaluation.lane_f1 import LaneCounts, LaneRule, count_lanes, lane_report
from perception3d.formats.custom_lanes.files import LaneLine, read_lane_lines


def evaluate_lane_files(
    gt: str | Path, pred: str | Path, rule: LaneRule, jobs: int | None = None, progress: bool = True
) -> tuple[dict[str, Any], str]:
    """Returns the scores, see `evaluation.lane_f1.lane_report`, and the table; `notes` where lines are missing.

    The annotated images of gt are scored; one that has no line in pred has no predicted lanes.

    Args:
        gt, pred: files of lanes, see `custom_lanes.files`.
        rule: how; its size is that of the images.
        jobs: processes.
        progress: show a bar.

    Raises:
        InputError: a file cannot be read, has no annotated image, or pred has an image that gt does not have, or a
            line without `lanes`.
    """
    truth = {line.image: line for line in read_lane_lines(gt)}
    found = {line.image: line for line in read_lane_lines(pred)}
    unknown = [line for image, line in found.items() if image not in truth]
    if unknown:
        raise InputError(
            f'{unknown[0].place}: {unknown[0].image} is not in {gt} ({len(unknown)} of {len(found)} images): score a '
            'file of the same images'
        )
    without = [line.place for line in found.values() if line.lanes is None]
    if without:
        raise InputError(f'{without[0]} has no "lanes": write "lanes": [] where none are predicted')
    annotated = [line for line in truth.values() if line.lanes is not None]
    if not annotated:
        raise InputError(f'{gt} has no line with lanes: give --gt the annotations, "lanes": [] for an image without')
    pairs = [(line, found.get(line.image)) for line in annotated]
    counts = map_frames(partial(_count, rule=rule), pairs, jobs, progress, 'counting lanes')
    scores, lines = lane_report(counts, rule)
    missing = sum(line.image not in found for line in annotated)
    if missing:
        scores['notes'] = [f'{missing} of {len(annotated)} images have no line in {pred}: no lanes are predicted there']
    notes: Sequence[str] = scores.get('notes', ())
    return scores, '\n'.join([f'{len(annotated)} images', *lines, *(f'note: {note}' for note in notes)])


def _count(pair: tuple[LaneLine, LaneLine | None], rule: LaneRule) -> LaneCounts:
    truth, found = pair
    return count_lanes(truth.lanes or (), (found.lanes if found else None) or (), rule)
