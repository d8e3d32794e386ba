"""JRDB's score of a folder of result files against a folder of truth; no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError, require_folder
from perception3d.formats.jrdb.evaluation.scores import METRICS, OVERLAPS, JrdbTable, average_precision
from perception3d.formats.jrdb.files import read_frame
from perception3d.formats.kitti.evaluation.reading import parse_lines

IMAGE_FOLDER = 'image_stitched'
"""Where the 2D results of a sequence are."""
Scores = dict[str, dict[str, dict[str, Any]]]
_COLUMNS = 16
_POINTS = 2


def evaluate_folders(gt: str | Path, pred: str | Path) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print.

    Sequences that have results are scored, with all frames of their truth. The toolkit insists on the 27,661 frames of
    the test set; frames without objects and detections change nothing.

    Args:
        gt: `SEQUENCE/FRAME.txt`, such as `perception3d_labels` of tools/create_data.py jrdb.
        pred: 3D results `SEQUENCE/FRAME.txt`, 2D results `SEQUENCE/image_stitched/FRAME.txt`, or both; an empty file
            for a frame without detections.

    Raises:
        InputError: a folder is missing, there are no results, a frame of a sequence has no result file or no truth, or
            a line cannot be read; names the file.
    """
    gt, pred = require_folder(gt, 'give --gt the folder of SEQUENCE/FRAME.txt'), require_folder(pred)
    scores: Scores = {}
    lines, notes = [], []
    names = sorted(path.name for path in gt.iterdir() if path.is_dir())
    for metric in METRICS:
        inner = IMAGE_FOLDER if metric == '2d' else ''
        scored = [name for name in names if _frames(pred / name / inner)]
        if not scored:
            continue
        frames = {name: _frames_of_both(gt / name, pred / name / inner) for name in scored}
        truth, found = (
            _read([root / name / folder / frame for name in scored for frame in frames[name]])
            for root, folder in ((gt, ''), (pred, inner))
        )
        scores[metric] = score_tables(truth, found, metric, {name: len(frames[name]) for name in scored})
        lines += table(metric, scores[metric], len(truth.starts) - 1)
        if len(scored) < len(names):
            notes.append(f'{metric}: {len(names) - len(scored)} sequences of the truth have no results: not scored')
    if not scores:
        raise InputError(
            f'{pred} has results of none of the sequences of {gt}: expected SEQUENCE/FRAME.txt (3D) or '
            f'SEQUENCE/{IMAGE_FOLDER}/FRAME.txt (2D)'
        )
    return {**scores, **({'notes': notes} if notes else {})}, '\n'.join([*lines, *(f'note: {n}' for n in notes)])


def score_tables(truth: JrdbTable, found: JrdbTable, metric: str, frames: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Returns overlap -> {'overall': AP, 'sequences': {name: AP}}, percent; `frames`: name of a sequence -> its frames.

    The frames of the tables are those of the sequences, one after another.
    """
    edges = np.cumsum([0, *frames.values()])
    spans = [slice(0, int(edges[-1])), *(slice(int(a), int(b)) for a, b in zip(edges, edges[1:]))]
    values = average_precision(truth, found, metric, spans)
    return {
        f'{overlap}': {'overall': float(values[0, k]), 'sequences': dict(zip(frames, values[1:, k].tolist()))}
        for k, overlap in enumerate(OVERLAPS)
    }


def _frames(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith('.txt')) if folder.is_dir() else []


def _frames_of_both(truth: Path, results: Path) -> list[str]:
    """Returns the names of the files of a sequence; InputError where truth and results do not have the same."""
    wanted, there = _frames(truth), _frames(results)
    for names, others, folder in ((wanted, set(there), results), (there, set(wanted), truth)):
        missing = [name for name in names if name not in others]
        if missing:
            raise InputError(
                f'{folder} lacks {missing[0]} ({len(missing)} of {len(names)} files): truth and results need the same '
                'frames, an empty file where nothing was detected'
            )
    return wanted


def _read(paths: Sequence[Path]) -> JrdbTable:
    """Returns the objects of files; InputError with file and line for what cannot be read."""
    contents = []
    for path in paths:
        with open(path, 'rb', 0) as file:
            contents.append(file.read())
    table = parse_lines(contents, _COLUMNS)
    if table is None:
        for path in paths:
            read_frame(path)
        raise InputError(f'{paths[0].parent} has a file that cannot be read')
    points = table.numbers[:, _POINTS].astype(np.int64)
    return JrdbTable(table.codes, np.delete(table.numbers, _POINTS, axis=1), points, table.starts)


def table(metric: str, scores: dict[str, dict[str, Any]], frames: int) -> list[str]:
    """Returns the lines of a table, one for all frames, then one a sequence; scores as of `score_tables`."""
    lines = [
        f'JRDB {metric.upper()}, {frames} frames: AP in percent',
        f'{"IoU >":<40}' + ''.join(f'{o:>10}' for o in scores),
    ]
    rows = {'overall': [part['overall'] for part in scores.values()]}
    for name in next(iter(scores.values()))['sequences']:
        rows[name] = [part['sequences'][name] for part in scores.values()]
    return lines + [f'{name:<40}' + ''.join(f'{value:>10.2f}' for value in values) for name, values in rows.items()]
