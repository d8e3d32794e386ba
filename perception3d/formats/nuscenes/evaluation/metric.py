"""The nuScenes detection metric for mmengine's test loop: NDS and its parts, by the devkit's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from mmengine.logging import print_log

from perception3d.checks import InputError, unknown_name
from perception3d.evaluation.notes import describe_ignored
from perception3d.evaluation.submissions import SubmissionMetric, folder_by_any_name, require_unique
from perception3d.files import read_pickle, write_json
from perception3d.formats.nuscenes.evaluation.classes import config_of_classes, own_mapping
from perception3d.formats.nuscenes.evaluation.scores import (
    evaluate_boxes,
    flatten,
    official_config,
    table,
)
from perception3d.formats.nuscenes.files import VEHICLES, open_tables
from perception3d.geometry.camera import chain, quaternion_wxyz, transform, yawed_quaternions
from perception3d.outputs import check_outputs
from perception3d.registry import METRICS

if TYPE_CHECKING:
    from nuscenes.eval.detection.data_classes import DetectionConfig

MOVING_MPS = 0.2
_SENSORS = ('camera', 'lidar', 'radar', 'map', 'external')


def attribute_name(detection_name: str, speed_mps: float) -> str:
    """Returns the attribute that a box gets from its class and speed: the usual rule, moving above 0.2 m/s.

    Source: mmdet3d's NuScenesMetric, after CenterPoint.
    """
    moving = speed_mps > MOVING_MPS
    if detection_name in VEHICLES:
        standing = 'vehicle.stopped' if detection_name == 'bus' else 'vehicle.parked'
        return 'vehicle.moving' if moving else standing
    if detection_name in ('bicycle', 'motorcycle'):
        return 'cycle.with_rider' if moving else 'cycle.without_rider'
    if detection_name == 'pedestrian':
        return 'pedestrian.moving' if moving else 'pedestrian.standing'
    return ''


@dataclass(frozen=True)
class SampleBoxes:
    """The M predicted boxes of a sample, and where it is.

    token: of the sample. boxes (M, 7) or (M, 9): x, y, z of the centre, l, w, h, yaw[, vx, vy] in the LiDAR frame, in
    metres, radians, m/s. scores, labels (M,). ego_from_lidar, global_from_ego (4, 4) of the keyframe.
    """

    token: str
    boxes: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    ego_from_lidar: npt.NDArray[Any]
    global_from_ego: npt.NDArray[Any]


def submission_boxes(sample: SampleBoxes, classes: Sequence[str], config: DetectionConfig) -> list[dict[str, Any]]:
    """Converts the boxes of one sample to the nuScenes submission format, global frame.

    Args:
        sample: The boxes.
        classes: Class names by label.
        config: Boxes of a class beyond its `class_range` from the ego vehicle, in the plane, are left out, since the
            benchmark ignores them; the best `max_boxes_per_sample` are kept.
    """
    boxes, scores, labels = sample.boxes, sample.scores, sample.labels
    global_from_lidar = chain(sample.global_from_ego, sample.ego_from_lidar)
    centres = transform(boxes[:, :3].astype(np.float64), global_from_lidar)
    range_m = np.array([config.class_range[classes[label]] for label in labels], np.float64)
    distance_m = np.linalg.norm((centres - sample.global_from_ego[:3, 3])[:, :2], axis=1)
    kept = np.flatnonzero(distance_m < range_m)
    kept = kept[np.argsort(-scores[kept], kind='stable')][: config.max_boxes_per_sample]

    velocity = np.zeros((len(boxes), 3))
    if boxes.shape[1] >= 9:
        velocity[:, :2] = np.nan_to_num(boxes[:, 7:9])
    velocity = velocity @ global_from_lidar[:3, :3].T
    yaws = boxes[kept, 6].astype(np.float64)
    rotations = yawed_quaternions(quaternion_wxyz(global_from_lidar[:3, :3]), yaws)
    converted = []
    for i, rotation in zip(kept, rotations, strict=True):
        name, (length, width, height) = classes[labels[i]], boxes[i, 3:6].tolist()
        converted.append(
            {
                'sample_token': sample.token,
                'translation': centres[i].tolist(),
                'size': [width, length, height],
                'rotation': rotation.tolist(),
                'velocity': velocity[i, :2].tolist(),
                'detection_name': name,
                'detection_score': float(scores[i]),
                'attribute_name': attribute_name(name, float(np.linalg.norm(velocity[i, :2]))),
            }
        )
    return converted


@METRICS.register_module()
class NuScenesDetectionMetric(SubmissionMetric):
    """mAP, NDS and the five errors of the samples that were tested, whatever split they belong to.

    Predictions are converted to the submission format where they are made, so that processes exchange little. Scores
    come from the devkit's code (see `nuscenes_scores`); the tables are read once, when the first scores are computed.

    Args:
        data_root: The nuScenes tree.
        ann_file: Info file, relative to data_root; only needed for pipelines that do not pack `token`,
            `ego_from_lidar` and `global_from_ego`, as mmdet3d's own.
        version: Tables to score against; by default those that the tested data set names.
        format_only: Write the submission, compute nothing.
        format_dir: The submission goes to `results_nusc.json` in this folder; nothing is written if None.
        eval_config: Name of the devkit's settings.
        collect_device, prefix: As of mmengine's BaseMetric.
        sensors: What the detector sees, for the description of a submission: camera, lidar, radar, map, external.
        jsonfile_prefix: Older form of `format_dir`: the submission goes to `<jsonfile_prefix>_nusc.json`.
    """

    default_prefix = 'nuscenes'

    def __init__(
        self,
        data_root: str,
        ann_file: str | None = None,
        version: str | None = None,
        format_only: bool = False,
        format_dir: str | None = None,
        eval_config: str = 'detection_cvpr_2019',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        jsonfile_prefix: str | None = None,
        sensors: Sequence[str] = ('camera',),
    ) -> None:
        unknown = set(sensors) - set(_SENSORS)
        if unknown or not sensors:
            raise InputError(f'sensors must be some of {", ".join(_SENSORS)}, got {list(sensors)}')
        self.sensors = tuple(sensors)
        older = None if jsonfile_prefix is None else str(Path(jsonfile_prefix).parent)
        folder = folder_by_any_name(format_dir, jsonfile_prefix=older)
        super().__init__(folder, format_only, collect_device, prefix)
        name = 'results' if jsonfile_prefix is None else Path(jsonfile_prefix).name
        self.submission = None if self.format_dir is None else Path(self.format_dir) / f'{name}_nusc.json'
        check_outputs(files=[self.submission])
        self.data_root = data_root
        self.ann_file = ann_file
        self.version = version
        self.config = official_config(eval_config)

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError if one of `classes` is neither of the benchmark nor one that the info file maps to."""
        known = {*self.config.class_range, *((self.dataset_meta or {}).get('category_map') or {}).values()}
        for name in classes:
            if name not in known:
                raise unknown_name('class of the nuScenes benchmark', name, known)

    def _settings(self) -> tuple[DetectionConfig, dict[str, str] | None]:
        """Returns the settings, and category -> class where the info file has others than the benchmark's."""
        mapping = own_mapping(self.dataset_meta)
        if mapping is None:
            return self.config, None
        return config_of_classes(self.config, self.dataset_meta['classes']), mapping

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Converts the predictions of a batch; each data sample holds `pred_instances_3d` and the metas."""
        classes, (config, _) = self.dataset_meta['classes'], self._settings()
        for sample in data_samples:
            meta = sample if 'ego_from_lidar' in sample and 'token' in sample else self._meta(sample)
            predicted = sample['pred_instances_3d']
            boxes = predicted['bboxes_3d']
            values = boxes.tensor.detach().cpu().float().numpy().copy()
            values[:, 2] += values[:, 5] / 2
            own = SampleBoxes(
                meta['token'],
                values,
                predicted['scores_3d'].detach().cpu().float().numpy(),
                predicted['labels_3d'].detach().cpu().numpy(),
                np.asarray(meta['ego_from_lidar'], np.float64),
                np.asarray(meta['global_from_ego'], np.float64),
            )
            self.results.append((own.token, submission_boxes(own, classes, config)))

    def compute_metrics(self, results: list[tuple[str, list[dict[str, Any]]]]) -> dict[str, float]:
        """Writes the submission if asked to, then scores it; returns the keys that `flatten` describes."""
        rule = 'tokens must be unique, so join no data sets that share samples'
        require_unique((token for token, _ in results), 'sample', rule)
        by_token = dict(results)
        if self.submission is not None:
            write_json(self.submission, {'meta': self._submission_meta(), 'results': by_token})
            print_log(f'submission of {len(by_token)} samples written to {self.submission}', logger='current')
        if self.format_only:
            return {}
        nusc = open_tables(self.data_root, self.version or self.dataset_meta.get('version'))
        ignored: dict[str, Counter[str]] = {}
        config, mapping = self._settings()
        metrics, counts = evaluate_boxes(nusc, by_token, config, ignored, mapping)
        text = table(metrics, counts, describe_ignored('boxes', ignored))
        print_log(f'{len(by_token)} samples\n{text}', logger='current')
        return flatten(metrics, counts)

    def _submission_meta(self) -> dict[str, bool]:
        return {f'use_{sensor}': sensor in self.sensors for sensor in _SENSORS}

    def _meta(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Returns token and poses of a sample whose pipeline packed only its index."""
        if self.ann_file is None or 'sample_idx' not in sample:
            raise InputError(
                'predictions carry no token, ego_from_lidar and global_from_ego: pack them as metas, or give '
                'NuScenesDetectionMetric an ann_file and pack sample_idx'
            )
        return self._metas_by_index[sample['sample_idx']]

    @cached_property
    def _metas_by_index(self) -> dict[int, dict[str, Any]]:
        infos = read_pickle(Path(self.data_root) / str(self.ann_file))['data_list']
        return {
            info['sample_idx']: {
                'token': info['token'],
                'ego_from_lidar': info['lidar_points']['lidar2ego'],
                'global_from_ego': info['ego2global'],
            }
            for info in infos
        }
