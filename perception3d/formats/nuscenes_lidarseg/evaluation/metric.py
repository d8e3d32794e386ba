"""The metric of nuScenes-lidarseg for mmengine's test loop, and its submission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perception3d.evaluation.point_iou import Counts
from perception3d.evaluation.point_metric import PointLabelMetric, ScanLabels
from perception3d.files import write_json
from perception3d.formats.nuscenes_lidarseg.evaluation.scores import LidarsegScores, lidarseg_scores
from perception3d.formats.nuscenes_lidarseg.files import class_ids, write_result_file
from perception3d.outputs import require_name
from perception3d.registry import METRICS

# What the benchmark asks of a submission. A model of clouds uses nothing else.
_META = {'use_camera': False, 'use_lidar': True, 'use_radar': False, 'use_map': False, 'use_external': False}


@METRICS.register_module()
class NuScenesLidarsegMetric(PointLabelMetric):
    """IoU of points by the rules of the devkit, see `lidarseg_scores`; the submission has its layout.

    Scores and arguments are those of PointLabelMetric, and `fwiou`. Unlike there a class that occurs neither in the
    truth nor in the predictions has the IoU NaN and is left out of the mean, and a prediction that is no class is an
    error. `format_dir` gets `lidarseg/<set>/<token>_lidarseg.bin` and `<set>/submission.json`, where the set is the
    split of the tested data set.
    """

    default_prefix = 'nuscenes_lidarseg'

    def scores(self, confusion: Counts) -> LidarsegScores:
        """Returns the scores of a confusion matrix, see `count_confusion`."""
        return lidarseg_scores(confusion)

    def _count(self, scan: ScanLabels, cloud: Any) -> list[Counts]:
        class_ids(scan.predicted, f'frame {scan.frame_id}', self.dataset_meta['classes'])
        return super()._count(scan, cloud)

    def write_scan(self, scan: ScanLabels) -> None:
        """Writes the result file of a keyframe."""
        ids = class_ids(scan.predicted, f'frame {scan.frame_id}', self.dataset_meta['classes'])
        write_result_file(self._folder('lidarseg') / f'{scan.frame_id}_lidarseg.bin', ids)

    def finish_submission(self, frames: Sequence[str]) -> None:
        """Writes the file that says what data were used."""
        write_json(self._folder() / 'submission.json', {'meta': _META}, indent=2)

    def _folder(self, *parts: str) -> Path:
        return Path(str(self.format_dir), *parts, require_name(self.dataset_meta.get('split'), 'split of the data set'))
