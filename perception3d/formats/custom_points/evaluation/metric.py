"""IoU of one's own classes for mmengine's test loop."""

from __future__ import annotations

from pathlib import Path

from perception3d.checks import InputError
from perception3d.evaluation.point_metric import PointLabelMetric, ScanLabels
from perception3d.files import write_bytes
from perception3d.registry import METRICS
from perception3d.structures.label_encoding import LabelEncoding


@METRICS.register_module()
class CustomPointsMetric(PointLabelMetric):
    """Mean IoU of points by SemanticKITTI's rule: a class that occurs nowhere has IoU 0 and counts in the mean.

    Result files are `format_dir/<frame_id>.label`; `tools/evaluate.py custom-points` reads them. What a sample must
    pack, the keys and the arguments are those of `PointLabelMetric`.
    """

    default_prefix = 'custom_points'

    def write_scan(self, scan: ScanLabels) -> None:
        """Writes the label file of a frame."""
        classes, ids = tuple(self.dataset_meta['classes']), tuple(self.dataset_meta.get('label_ids', ()))
        if len(ids) != len(classes):
            raise InputError('result files need the ids of the classes: test on a CustomPointsDataset')
        stored = LabelEncoding(classes, {}, ids).encode(scan.predicted)
        write_bytes(Path(str(self.format_dir)) / f'{scan.frame_id}.label', stored)
