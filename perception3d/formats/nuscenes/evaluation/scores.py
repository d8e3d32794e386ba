"""Scores of a nuScenes submission by nuscenes-devkit's own code, on any set of samples.

The devkit's DetectionEval takes whole splits and a result file. Here its loaders, filters and metric run on exactly the
samples that were evaluated, so that official splits, splits of one's own and a single sample go the same way; on a
whole split the numbers equal DetectionEval's (a test says so).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perception3d.checks import InputError
from perception3d.evaluation.notes import describe_ignored
from perception3d.formats.nuscenes.evaluation.classes import predictions_of, truth_of
from perception3d.formats.nuscenes.evaluation.submission import read_submission
from perception3d.formats.nuscenes.files import open_tables, samples_of_split

if TYPE_CHECKING:
    from nuscenes import NuScenes
    from nuscenes.eval.detection.data_classes import DetectionConfig, DetectionMetrics

CONFIG = 'detection_cvpr_2019'
ERROR_NAMES = {'trans_err': 'ATE', 'scale_err': 'ASE', 'orient_err': 'AOE', 'vel_err': 'AVE', 'attr_err': 'AAE'}


def official_config(name: str = CONFIG) -> DetectionConfig:
    """Returns the devkit's evaluation settings: class ranges, distances, at most 500 boxes a sample."""
    from nuscenes.eval.common.config import config_factory

    return config_factory(name)


def evaluate_boxes(
    nusc: NuScenes,
    results: dict[str, list[dict[str, Any]]],
    config: DetectionConfig | None = None,
    ignored: dict[str, Counter[str]] | None = None,
    mapping: Mapping[str, str] | None = None,
) -> tuple[DetectionMetrics, dict[str, int]]:
    """Scores boxes in the submission format against the annotations of the samples named in `results`.

    Args:
        nusc: The opened tables; they must hold annotations.
        results: Sample token -> boxes in the global frame, as in a submission; an empty list for a sample without any.
        config: Settings; the official ones by default.
        mapping: Category -> class, for other classes than the benchmark's (see `nuscenes_classes`).
        ignored: Receives reason -> class -> number of the annotated boxes that the devkit leaves out.

    Returns:
        The devkit's DetectionMetrics, and the number of ground-truth boxes a class that were evaluated.
    """
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes, load_gt_of_sample_tokens
    from nuscenes.eval.detection.data_classes import DetectionBox
    from nuscenes.eval.detection.evaluate import DetectionEval

    if not nusc.sample_annotation:
        raise InputError(
            f'{nusc.version} has no annotations, so nothing can be scored: write a submission instead '
            '(tools/test.py --format-only DIR)'
        )
    config = config or official_config()
    if mapping is None:
        boxes = {
            'gt_boxes': load_gt_of_sample_tokens(nusc, list(results), DetectionBox),
            'pred_boxes': EvalBoxes.deserialize(results, DetectionBox),
        }
    else:
        boxes = {'gt_boxes': truth_of(nusc, list(results), mapping), 'pred_boxes': predictions_of(results)}
    for name, group in boxes.items():
        group = add_center_dist(nusc, group)
        if name == 'gt_boxes' and ignored is not None:
            _count_ignored(group.all, config, ignored)
        # The devkit's filter takes the type of the boxes from the first one.
        boxes[name] = filter_eval_boxes(nusc, group, config.class_range) if group.all else group

    # DetectionEval.__init__ only loads what is given here; evaluate() is the official metric.
    official = DetectionEval.__new__(DetectionEval)
    official.cfg, official.verbose = config, False
    official.gt_boxes, official.pred_boxes = boxes['gt_boxes'], boxes['pred_boxes']
    metrics, _ = official.evaluate()
    counts = {name: 0 for name in config.class_names}
    for box in boxes['gt_boxes'].all:
        counts[box.detection_name] += 1
    return metrics, counts


def _count_ignored(boxes: list[Any], config: DetectionConfig, ignored: dict[str, Counter[str]]) -> None:
    """Adds the annotated boxes that the devkit's filter leaves out, by their first reason and their class."""
    for box in boxes:
        reach = config.class_range[box.detection_name]
        if box.num_pts == 0:
            ignored.setdefault(_NO_POINTS, Counter())[box.detection_name] += 1
        elif not box.ego_dist < reach:
            ignored.setdefault(_OUT_OF_RANGE, Counter())[box.detection_name] += 1


_NO_POINTS = 'no LiDAR or radar point lies in them (num_lidar_pts + num_radar_pts is 0)'
_OUT_OF_RANGE = 'they are beyond the range of their class'


def flatten(metrics: DetectionMetrics, counts: dict[str, int]) -> dict[str, float]:
    """Returns the scores as one flat dict.

    Keys: mAP, NDS, mATE, mASE, mAOE, mAVE, mAAE; AP/<class> (mean over distances), AP@<d>m/<class>, ATE/<class> and so
    on; AP@<d>m (mean over classes) and AP@<d>m/present (mean over the classes that have ground truth). A class's
    errors are left out where they are not defined or there is no ground truth; its APs are then 0, as in the devkit.
    """
    flat = {'mAP': metrics.mean_ap, 'NDS': metrics.nd_score}
    flat.update({f'm{ERROR_NAMES[name]}': value for name, value in metrics.tp_errors.items()})
    names = list(metrics.cfg.class_names)
    for distance in metrics.cfg.dist_ths:
        aps = {name: metrics.get_label_ap(name, distance) for name in names}
        label = f'AP@{distance:g}m'
        flat[label] = float(np.mean(list(aps.values())))
        present = [ap for name, ap in aps.items() if counts[name]]
        if present:
            flat[f'{label}/present'] = float(np.mean(present))
        flat.update({f'{label}/{name}': ap for name, ap in aps.items()})
    for name in names:
        flat[f'AP/{name}'] = metrics.mean_dist_aps[name]
        if counts[name]:
            flat.update({f'{short}/{name}': metrics.get_label_tp(name, key) for key, short in ERROR_NAMES.items()})
    return {key: float(value) for key, value in flat.items() if not math.isnan(value)}


def table(metrics: DetectionMetrics, counts: dict[str, int], notes: Sequence[str] = ()) -> str:
    """Returns the devkit's summary, its table of classes with AP by distance and the number of boxes, and the notes."""
    lines = [f'mAP: {metrics.mean_ap:.4f}']
    lines += [f'm{ERROR_NAMES[name]}: {value:.4f}' for name, value in metrics.tp_errors.items()]
    lines += [f'NDS: {metrics.nd_score:.4f}', '']
    distances = metrics.cfg.dist_ths
    titles = ['AP', *(f'AP@{d:g}' for d in distances), *ERROR_NAMES.values(), 'boxes']
    lines.append(f'{"class":<22}' + ''.join(f'{title:>8}' for title in titles))
    for name in metrics.cfg.class_names:
        values = [metrics.mean_dist_aps[name], *(metrics.get_label_ap(name, d) for d in distances)]
        values += [metrics.get_label_tp(name, key) for key in ERROR_NAMES]
        lines.append(f'{name:<22}' + ''.join(f'{value:>8.3f}' for value in values) + f'{counts[name]:>8}')
    lines += [f'note: {note}' for note in notes]
    return '\n'.join(lines)


def evaluate_submission(
    root: str | Path,
    pred: str | Path,
    version: str | None = None,
    split: str | None = None,
) -> tuple[dict[str, float], str]:
    """Scores a submission file without a model.

    Args:
        root: The nuScenes tree.
        pred: The submission, a JSON file.
        version: Which tables; not needed where the tree has one version.
        split: Evaluate this split, all of whose samples must be in the file; by default the samples in the file.

    Returns:
        The flat scores and a table to print, which also says which boxes are left out.

    Raises:
        InputError: The tree, the split or the submission cannot be used.
    """
    nusc = open_tables(root, version)
    config = official_config()
    results = read_submission(pred, nusc, config)
    if split is not None:
        wanted = samples_of_split(nusc, split)
        lacking = [token for token in wanted if token not in results]
        if lacking:
            raise InputError(f'{pred} lacks {len(lacking)} of {len(wanted)} samples of {split}, such as {lacking[0]}')
        results = {token: results[token] for token in wanted}
    ignored: dict[str, Counter[str]] = {}
    metrics, counts = evaluate_boxes(nusc, results, config, ignored)
    return flatten(metrics, counts), table(metrics, counts, describe_ignored('boxes', ignored))
