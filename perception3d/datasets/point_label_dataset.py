"""What the data sets of point labels share: label files by frame, the ids of their format, results of one frame."""

from __future__ import annotations

import os.path as osp
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.datasets.frame_dataset import SingleFrameDataset
from perception3d.files import write_bytes
from perception3d.geometry.iou import to_numpy
from perception3d.structures.base import Structure
from perception3d.structures.label_encoding import LabelEncoding
from perception3d.structures.point_labels import PointLabels
from perception3d.structures.sample_schema import FRAME_KEYS, LIDAR_KEYS, MMDET3D_KEYS

POINT_META_KEYS = (*LIDAR_KEYS, *FRAME_KEYS, *MMDET3D_KEYS, 'num_scored_points')
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""

# Folders of annotated labels, in the layouts of all formats.
_ANNOTATED = ('labels', 'lidarseg')


class PointLabelDataset(SingleFrameDataset):
    """Frames with a label for each point, from the info files of `tools/create_data.py FORMAT`.

    An info has what SingleFrameDataset asks for and, of labelled frames, `pts_semantic_mask_path` relative to
    data_root. A sample has its whole path, and `label_encoding`, how to read the file: the step `LoadPointLabels` does.
    A subclass sets `format_names`, `result_suffix`, and where they are fixed `default_classes`.

    Arguments and errors are those of SingleFrameDataset.
    """

    def label_encoding(self) -> LabelEncoding:
        """Returns how the format stores labels of the classes of this data set: a subclass states it.

        `self.info_metainfo` is the `metainfo` of the info file; it is empty where none was read, as in inference.
        """
        raise InputError(f'{type(self).__name__} does not state how its labels are stored: give it label_encoding()')

    @property
    def info_metainfo(self) -> dict[str, Any]:
        """The `metainfo` of the info file."""
        return getattr(self, '_info_metainfo', {})

    def _read(self, root: str, path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        content, classes = super()._read(root, path)
        self._info_metainfo = dict(content['metainfo'])
        return content, classes

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        sample = super().parse_data_info(info)
        if sample.get('pts_semantic_mask_path'):
            sample['pts_semantic_mask_path'] = osp.join(self.data_root, sample['pts_semantic_mask_path'])
        return sample

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns a sample for the pipeline."""
        sample: dict[str, Any] = super().get_data_info(idx)
        # Here and not in parse_data_info: the data set keeps its samples as bytes, each with all that it refers to.
        sample['label_encoding'] = self.label_encoding()
        return sample

    def read_annotations(self, info: Mapping[str, Any]) -> dict[str, Structure]:
        """Returns the labels of a stored frame; nothing of a frame without labels.

        Raises:
            InputError: as of the step `LoadPointLabels`.
        """
        path = info.get('pts_semantic_mask_path')
        if not path:
            return {}
        encoding = self.label_encoding()
        stored = encoding.read(path)
        return {'gt_point_labels': PointLabels(encoding.labels(stored, path), encoding.objects(stored))}

    def prepare_data(self, index: int) -> dict[str, Any]:
        """Runs the pipeline on a sample.

        In training the sample has the data set itself as `dataset`, from which mixing augmentations draw other scans,
        as of mmdet3d's Seg3DDataset.
        """
        sample = {**self.get_data_info(index), 'box_type_3d': self.box_type_3d, 'box_mode_3d': self.box_mode_3d}
        if not self.test_mode:
            sample['dataset'] = self
        prepared: dict[str, Any] = self.pipeline(sample)
        return prepared

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the label file of a predicted sample: the ids of its format, one a point.

        Of a sample of several scans, which has `num_scored_points`, the points of the current scan.

        Raises:
            InputError: `path` lies in a folder of annotated labels, or the file there is not one of this cloud.
        """
        labels = predicted_labels(sample)
        if labels is None:
            return False
        stored = self.label_encoding().encode(labels)
        _require_result_file(Path(path), stored.nbytes)
        write_bytes(path, stored)
        return True


def _require_result_file(path: Path, size: int) -> None:
    """Raises InputError where a file would be lost that is not a result: annotated labels look the same."""
    if path.parent.name in _ANNOTATED:
        raise InputError(f'{path} would be among the labels of a data set: choose another folder for results')
    if path.is_file() and path.stat().st_size != size:
        raise InputError(f'{path} is not a result of this cloud and would be lost: choose another folder')


def predicted_labels(sample: Any) -> np.ndarray | None:
    """Returns the predicted labels (N,) int64 of the scored points of a sample; None where nothing was predicted."""
    predicted = sample.get('pred_pts_seg')
    if predicted is None or 'pts_semantic_mask' not in predicted:
        return None
    labels = to_numpy(predicted['pts_semantic_mask']).astype(np.int64)
    metas = getattr(sample, 'metainfo', sample)
    return labels[: metas.get('num_scored_points')]
