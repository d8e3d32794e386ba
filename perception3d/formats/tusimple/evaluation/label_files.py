"""TuSimple's accuracy of a file of JSON lines, by the rules of its official tool; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, is_number
from perception3d.files import read_json_lines
from perception3d.formats.tusimple.evaluation.accuracy import (
    MORE_LANES,
    SLOWEST_MS,
    ImageScores,
    score_image,
    sum_in_order,
)
from perception3d.formats.tusimple.files import require_numbers

_EXAMPLE = '{{"raw_file": "clips/../20.jpg", "lanes": [[-2, 632.5, ..], ..], {}: ..}}'


def evaluate_label_files(gt: str | Path, pred: str | Path) -> tuple[dict[str, Any], str]:
    """Returns `accuracy`, `fp` and `fn` as means over the images in 0..1, and a text; `notes` where there are.

    Args:
        gt, pred: files of JSON lines, `raw_file` and `lanes`, and `h_samples` in gt, `run_time` (ms) in pred. Both have
            one line an image, in any order.

    Raises:
        InputError: a file is missing, or a line is not what the official tool reads; names the line. There is another
            number of lines in one than in the other, or an image that is not annotated.
    """
    truth = {entry['raw_file']: (place, entry) for place, entry in _read(gt, 'h_samples')}
    num_annotated = len(read_json_lines(gt))
    predictions = _read(pred, 'run_time')
    if len(predictions) != num_annotated:
        raise InputError(
            f'{pred} has {len(predictions)} lines, but {gt} {num_annotated}: expected one line for each image, with '
            'no lanes where none were found'
        )
    scores = []
    for place, entry in predictions:
        if entry['raw_file'] not in truth:
            raise InputError(f'{place}: {entry["raw_file"]} is not in {gt}: score a file of the same images')
        scores.append(_score(place, entry, *truth[entry['raw_file']]))
    total = mean_scores(scores, len(truth))
    notes = _notes(scores, [entry['raw_file'] for _, entry in predictions], num_annotated - len(truth))
    lines = [f'{len(truth)} images', *(f'{name:<10}{100 * value:8.3f} %' for name, value in total.items())]
    return {**total, **({'notes': notes} if notes else {})}, '\n'.join([*lines, *(f'note: {note}' for note in notes)])


def mean_scores(scores: Sequence[ImageScores], num_images: int) -> dict[str, float]:
    """Returns `accuracy`, `fp`, `fn`: the sums over all predictions, in their order, by the number of images."""
    return {
        'accuracy': sum_in_order(each.accuracy for each in scores) / num_images,
        'fp': sum_in_order(each.fp for each in scores) / num_images,
        'fn': sum_in_order(each.fn for each in scores) / num_images,
    }


def _read(path: str | Path, own_key: str) -> list[tuple[str, dict[str, Any]]]:
    entries = read_json_lines(path, 'write one JSON line an image')
    for place, entry in entries:
        keys = ('raw_file', 'lanes', own_key)
        if not isinstance(entry, dict) or not isinstance(entry.get('raw_file'), str) or not entry.keys() >= set(keys):
            raise InputError(f'{place}: expected {_EXAMPLE.format(chr(34) + own_key + chr(34))}')
    return entries


def _score(place: str, prediction: dict[str, Any], gt_place: str, annotation: dict[str, Any]) -> ImageScores:
    rows = annotation['h_samples']
    require_numbers(rows, f'{gt_place}: h_samples')
    if not rows:
        raise InputError(f'{gt_place}: h_samples is empty: expected the rows of the lanes')
    for where, lanes in ((gt_place, annotation['lanes']), (place, prediction['lanes'])):
        if not isinstance(lanes, list):
            raise InputError(f'{where}: lanes: expected a list of lanes, got {str(lanes)[:80]}')
        for k, lane in enumerate(lanes):
            require_numbers(lane, f'{where}: lane {k}')
            if len(lane) != len(rows):
                raise InputError(
                    f'{where}: lane {k} has {len(lane)} values: expected {len(rows)}, one for each row of h_samples'
                )
    if not is_number(prediction['run_time']):
        raise InputError(f'{place}: run_time: expected a finite number, got {str(prediction["run_time"])[:80]}')
    return score_image(prediction['lanes'], annotation['lanes'], rows, prediction['run_time'])


def _notes(scores: Sequence[ImageScores], raw_files: Sequence[str], repeated: int) -> list[str]:
    notes = []
    refused = sum(each.refused for each in scores)
    if refused:
        notes.append(
            f'{refused} images count as missed, since run_time is above {SLOWEST_MS} ms or there are more lanes than '
            f'annotated by more than {MORE_LANES}'
        )
    twice = len(raw_files) - len(set(raw_files))
    if twice or repeated:
        notes.append(
            f'{twice} predictions and {repeated} annotations are of images that were there before: such predictions '
            'count again, as in the official tool'
        )
    return notes
