"""What the metrics of point labels share: the labels of a tested sample, counted into confusion matrices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.logging import print_log

from perception3d.checks import InputError, unknown_name
from perception3d.evaluation.point_iou import Counts, IouScores, count_confusion, distances, iou_table, kitti_iou
from perception3d.evaluation.submissions import SubmissionMetric, require_unique
from perception3d.outputs import require_name


@dataclass(frozen=True)
class ScanLabels:
    """The labels (N,) int64 of the scored points of a tested sample; `truth` is None where it is not annotated."""

    frame_id: str
    predicted: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64] | None


def read_scan(sample: dict[str, Any], scored: bool) -> ScanLabels:
    """Returns the labels of a tested sample: `pred_pts_seg`, and of `eval_ann_info` the truth, where `scored`.

    Of a sample of several scans, which packs `num_scored_points`, only the points of the current scan are returned.

    Raises:
        InputError: the sample lacks predictions, `frame_id` or the truth, or there is not one label for each point.
    """
    lacking = [key for key in ('frame_id', 'pred_pts_seg') if sample.get(key) is None]
    if lacking:
        raise InputError(f'tested samples carry no {", ".join(lacking)}: pack frame_id as a meta key (meta_keys)')
    frame = require_name(str(sample['frame_id']), 'frame_id')
    predicted = np.asarray(sample['pred_pts_seg']['pts_semantic_mask'].cpu(), np.int64)
    truth = (sample.get('eval_ann_info') or {}).get('pts_semantic_mask')
    count = sample.get('num_scored_points')
    if not scored:
        return ScanLabels(frame, predicted[:count], None)
    if truth is None:
        raise InputError(
            f'frame {frame} has no point labels, so it cannot be scored: test on another split, put LoadPointLabels '
            'into the pipeline, or write submission files (--format-only)'
        )
    truth = np.asarray(truth, np.int64)
    if len(truth) != len(predicted):
        raise InputError(
            f'frame {frame} has {len(predicted)} predicted labels and {len(truth)} annotated ones: no step of a test '
            'pipeline may drop points'
        )
    return ScanLabels(frame, predicted[:count], truth[:count])


def _clouds(inputs: Any) -> Any:
    """Returns the points of a batch; of test-time augmentation those of the first view, which is the cloud as it is."""
    return (inputs[0] if isinstance(inputs, Sequence) else inputs)['points']


class PointLabelMetric(SubmissionMetric):
    """IoU of points by the rule of `scores`: a subclass says how its format scores, and how it writes submissions.

    Every sample must pack `frame_id`, and have `pred_pts_seg.pts_semantic_mask` and `eval_ann_info` with
    `pts_semantic_mask`, see `datasets.transforms.point_labels.LoadPointLabels`. A prediction that is no class counts as
    a missed point.

    Scores in 0..1: `miou`, `accuracy`, `iou/<class>`; with `range_bins_m` also `<low>-<high>m/miou` and so on; with
    `class_groups` also `miou/<group>`, the mean over its classes.

    Args:
        range_bins_m: distances (low, high) of points from the sensor, in metres, to score on their own, both ends open;
            a high of None has no end.
        class_groups: name -> classes, to be averaged on their own, such as rare ones.
        kwargs: as of SubmissionMetric.
    """

    def __init__(
        self,
        range_bins_m: Sequence[tuple[float, float | None]] = (),
        class_groups: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.range_bins_m = [(low, np.inf if high is None else high) for low, high in range_bins_m]
        if any(not 0 <= low < high for low, high in self.range_bins_m):
            raise InputError(f'range_bins_m holds (low, high) with 0 <= low < high, got {list(range_bins_m)}')
        self.class_groups = {name: list(classes) for name, classes in (class_groups or {}).items()}

    def scores(self, confusion: Counts) -> IouScores:
        """Returns the scores of a confusion matrix, see `count_confusion`; by default by SemanticKITTI's rule."""
        return kitti_iou(confusion)

    @abstractmethod
    def write_scan(self, scan: ScanLabels) -> None:
        """Writes the submission file of a scan below `format_dir`."""

    def finish_submission(self, frames: Sequence[str]) -> None:
        """Is called when the files of all `frames` are written."""

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError if a group names a class that is not among `classes`."""
        for name, group in self.class_groups.items():
            for member in group:
                if member not in classes:
                    raise unknown_name(f'class (of class_groups[{name!r}])', member, classes)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Counts the points of a batch, and writes its submission files."""
        self.check_classes(self.dataset_meta['classes'])
        clouds = _clouds(data_batch['inputs']) if self.range_bins_m else [None] * len(data_samples)
        for sample, cloud in zip(data_samples, clouds):
            scan = read_scan(sample, not self.format_only)
            if self.format_dir is not None:
                self.write_scan(scan)
            # A confusion matrix is all that is kept: the labels of thousands of scans would fill the memory.
            self.results.append((scan.frame_id, self._count(scan, cloud)))

    def _count(self, scan: ScanLabels, cloud: Any) -> list[Counts]:
        """Returns the confusion matrix of a scan, and that of its points in each range."""
        if scan.truth is None:
            return []
        num_classes = len(self.dataset_meta['classes'])
        counts = [count_confusion(scan.predicted, scan.truth, num_classes)]
        if self.range_bins_m:
            distance_m = distances(np.asarray(cloud.cpu())[: len(scan.truth)])
            for low, high in self.range_bins_m:
                inside = (distance_m > low) & (distance_m < high)
                counts.append(count_confusion(scan.predicted[inside], scan.truth[inside], num_classes))
        return counts

    def compute_metrics(self, results: list[tuple[str, list[Counts]]]) -> dict[str, float]:
        """Returns the keys that the class describes."""
        frames = [frame for frame, _ in results]
        require_unique(frames, 'frame')
        if self.format_dir is not None:
            self.finish_submission(frames)
            print_log(f'results of {len(frames)} frames written to {self.format_dir}', logger='current')
        if self.format_only:
            return {}
        classes = list(self.dataset_meta['classes'])
        total = [np.sum(parts, axis=0) for parts in zip(*(counts for _, counts in results))]
        names = ['', *(f'{low:g}-{high:g}m/'.replace('inf', '') for low, high in self.range_bins_m)]
        found = {name: self.scores(counts) for name, counts in zip(names, total)}
        flat = {}
        for name, scores in found.items():
            flat.update({f'{name}{key}': value for key, value in scores.means().items()})
            iou = dict(zip(classes, scores.iou.tolist()))
            flat.update({f'{name}iou/{key}': value for key, value in iou.items()})
            flat.update({
                f'{name}miou/{group}': float(np.nanmean([iou[key] for key in members]))
                for group, members in self.class_groups.items()
            })  # fmt: skip
        print_log('\n'.join([f'{len(frames)} frames', *iou_table(classes, found[''], total[0])]), logger='current')
        return flat
