"""Panoptic quality by the rules of Panoptic nuScenes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.evaluation.panoptic import Ids, PanopticCounts, count_pairs
from perception3d.evaluation.point_files import PointCounts, PointScoring, panoptic_scores
from perception3d.evaluation.point_iou import count_confusion
from perception3d.formats.nuscenes_lidarseg.files import (
    CLASSES,
    STUFF,
    THINGS,
    LabelTables,
    lidarseg_encoding,
    require_class_ids,
)

MIN_SEGMENT_POINTS = 15
"""Smaller segments that match nothing are left out: the default of the devkit's eval/panoptic/evaluate.py."""


def score_panoptic_files(pairs: Iterable[tuple[Path, Path]], tables: LabelTables) -> dict[str, Any]:
    """Returns `pq`, `sq`, `rq`, `pq_dagger`, `miou` and by `classes` `pq`, `sq`, `rq`, `iou`, in 0..1.

    The numbers are bit for bit those of the devkit's `NuScenesPanopticEval`, task segmentation, but `pq_dagger`: the
    devkit adds its terms in the random order of a set, so its last bit differs from run to run. A point may be
    predicted as 0, no class: it is missed. A class that does not occur counts as 0 in the means.

    Args:
        pairs: label file and result file of each keyframe, in the order of the devkit.
        tables: of the version.

    Raises:
        InputError: a file is missing, damaged, has another number of points, or ids that are not known.
    """
    encoding = lidarseg_encoding(tables.category_index, tables.folder / 'category.json', panoptic=True)

    def label_of(numbers: Ids) -> npt.NDArray[np.int64]:
        return encoding.labels(numbers, tables.folder)

    def predicted_label_of(numbers: Ids) -> npt.NDArray[np.int64]:
        return encoding.ids(numbers).astype(np.int64) - 1

    size = len(CLASSES) + 1
    confusion, segments = np.zeros((size, size), np.int64), PanopticCounts(len(CLASSES), MIN_SEGMENT_POINTS)
    for label_file, result_file in pairs:
        truth = encoding.read(label_file)
        predicted = encoding.read(result_file, len(truth))
        labels, ids = encoding.labels(truth, label_file), encoding.ids(predicted)
        require_class_ids(ids, result_file, lowest=0)
        confusion += count_confusion(ids - 1, labels, len(CLASSES))
        pairs_of_scan = count_pairs(predicted.astype(np.uint32), truth.astype(np.uint32))
        segments.add(pairs_of_scan, label_of, predicted_label_of)
    scoring = PointScoring(encoding, panoptic=True, things=THINGS, stuff=STUFF)
    scores = panoptic_scores(scoring, PointCounts(confusion, np.zeros((0, size, size), np.int64), segments))
    return {key: value for key, value in scores.items() if key not in ('things', 'stuff')}
