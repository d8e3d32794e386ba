"""SemanticKITTI's scores for mmengine's test loop, and the submission files."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.evaluation.point_metric import PointLabelMetric, ScanLabels
from perception3d.formats.semantickitti.submission import write_archive, write_prediction
from perception3d.registry import METRICS


@METRICS.register_module()
class SemanticKittiMetric(PointLabelMetric):
    """SemanticKITTI's mean IoU, of one scan or of several, by the rules of its official tool.

    A class that occurs neither in the truth nor in the predictions has IoU 0 and counts in the mean, so that a part of
    the data scores low. The submission is `format_dir/sequences/XX/predictions/NNNNNN.label` with the benchmark's ids,
    and `format_dir/submission.zip` of these files. What a sample must pack, the keys and the arguments are those of
    `PointLabelMetric`.
    """

    default_prefix = 'semantickitti'

    def write_scan(self, scan: ScanLabels) -> None:
        """Writes the label file of a scan."""
        write_prediction(str(self.format_dir), scan.frame_id, scan.predicted, self.dataset_meta['classes'])

    def finish_submission(self, frames: Sequence[str]) -> None:
        """Writes the archive."""
        write_archive(str(self.format_dir), frames)
