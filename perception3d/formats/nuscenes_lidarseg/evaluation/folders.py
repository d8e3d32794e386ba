"""Scores of a results folder: `lidarseg/SPLIT/TOKEN_lidarseg.bin` and `panoptic/SPLIT/TOKEN_panoptic.npz` in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perception3d.checks import InputError, require_folder, unknown_name
from perception3d.evaluation.point_iou import count_confusion
from perception3d.formats.nuscenes.files import find_version, open_tables, splits
from perception3d.formats.nuscenes.info.build import LIDAR
from perception3d.formats.nuscenes_lidarseg.evaluation.scores import lidarseg_scores, table
from perception3d.formats.nuscenes_lidarseg.files import (
    CLASSES,
    LabelTables,
    lidarseg_encoding,
    read_label_tables,
    read_result_file,
)

if TYPE_CHECKING:
    from nuscenes import NuScenes

SUFFIXES = {'lidarseg': '_lidarseg.bin', 'panoptic': '_panoptic.npz'}


def evaluate_results(
    gt: str | Path, pred: str | Path, version: str | None = None, split: str | None = None, panoptic: bool = False
) -> tuple[dict[str, Any], str]:
    """Returns the scores of a results folder, of the form that JSON takes, and the table to print.

    Args:
        gt: the nuScenes tree with nuScenes-lidarseg.
        pred: the results folder.
        version: folder of the tables; None where there is one.
        split: None for the only folder in `pred/lidarseg`, or with `panoptic` in `pred/panoptic`.
        panoptic: also score `pred/panoptic`; `pred/lidarseg` may then be missing, and so are its scores.

    Raises:
        InputError: as of `read_label_tables` and `open_tables`; the version has no such split or no labels of it;
            results are missing, or have another number of points or ids that are not classes.
    """
    gt, pred = Path(gt), require_folder(pred)
    tasks = ['panoptic'] if panoptic else []
    if not panoptic or (pred / 'lidarseg').is_dir():
        tasks.insert(0, 'lidarseg')
    version = find_version(gt, version)
    tables = read_label_tables(gt, version)
    nusc = open_tables(gt, version)
    split = _find_split(pred / tasks[0], split, splits(nusc), version)
    tokens = lidar_keyframes(nusc, splits(nusc)[split])
    pairs = {task: _pairs(gt, pred / task / split, tokens, tables, task) for task in tasks}
    scores: dict[str, Any] = {}
    if 'lidarseg' in pairs:
        scores.update(score_files(pairs['lidarseg'], tables))
    if 'panoptic' in pairs:
        from perception3d.formats.nuscenes_lidarseg.evaluation.panoptic import score_panoptic_files

        scores['panoptic'] = score_panoptic_files(pairs['panoptic'], tables)
    return scores, f'{split} of {version}: {len(tokens)} keyframes\n{table(scores)}'


def lidar_keyframes(nusc: NuScenes, scenes: Iterable[str]) -> list[str]:
    """Returns the tokens of the LiDAR's keyframes of scenes, in the order of the devkit: by scene, then by time."""
    by_name = {scene['name']: scene for scene in nusc.scene}
    tokens = []
    for name in scenes:
        token = by_name[name]['first_sample_token']
        while token:
            sample = nusc.get('sample', token)
            if LIDAR not in sample['data']:
                raise InputError(f'sample {token} has no {LIDAR} keyframe, whose points are labelled')
            tokens.append(sample['data'][LIDAR])
            token = sample['next']
    return tokens


def score_files(pairs: Iterable[tuple[Path, Path]], tables: LabelTables) -> dict[str, Any]:
    """Returns the semantic scores of (label file, result file)."""
    encoding = lidarseg_encoding(tables.category_index, tables.folder / 'category.json')
    confusion = np.zeros((len(CLASSES) + 1,) * 2, np.int64)
    for label_file, result_file in pairs:
        truth = encoding.labels(encoding.read(label_file), label_file)
        ids = read_result_file(result_file, len(truth))
        confusion += count_confusion(ids.astype(np.int64) - 1, truth, len(CLASSES))
    return lidarseg_scores(confusion).to_json()


def _find_split(folder: Path, split: str | None, known: Mapping[str, Sequence[str]], version: str) -> str:
    """Returns the split whose results are in `folder`."""
    require_folder(folder, f'results lie in RESULTS/{folder.name}/SPLIT/TOKEN{SUFFIXES[folder.name]}')
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if split is not None:
        if split not in found:
            raise unknown_name(f'split (a folder in {folder})', split, found)
    elif len(found) != 1:
        what = (
            f'folders of several splits ({", ".join(found)}): choose one with --split'
            if found
            else 'no folder of a split'
        )
        raise InputError(f'{folder} holds {what}')
    chosen = split or found[0]
    if chosen not in known:
        raise unknown_name(f'split of {version} (the folder {folder / chosen})', chosen, known)
    return chosen


def _pairs(gt: Path, folder: Path, tokens: Sequence[str], tables: LabelTables, task: str) -> list[tuple[Path, Path]]:
    """Returns (label file, result file) of the keyframes; all of them must have both."""
    labels = tables.lidarseg if task == 'lidarseg' else tables.panoptic
    without = [token for token in tokens if token not in labels]
    if without:
        raise InputError(
            f'{tables.folder / task}.json has no labels of {len(without)} of {len(tokens)} keyframes of {folder.name}, '
            f'such as {without[0]}: this split cannot be scored here'
        )
    present = set(os.listdir(require_folder(folder)))
    names = [f'{token}{SUFFIXES[task]}' for token in tokens]
    missing = [name for name in names if name not in present]
    if missing:
        raise InputError(
            f'{folder} lacks the results of {len(missing)} of {len(tokens)} keyframes, such as {missing[0]}: every '
            'keyframe of the split must be predicted'
        )
    return [(gt / labels[token], folder / name) for token, name in zip(tokens, names)]
