"""SemanticKITTI scans with a label for each point."""

from __future__ import annotations

from typing import Any

from perception3d.datasets.point_label_dataset import PointLabelDataset
from perception3d.formats.semantickitti import FORMAT
from perception3d.formats.semantickitti.files import CLASSES, COLORS_RGB, label_encoding
from perception3d.registry import DATASETS
from perception3d.structures.label_encoding import LabelEncoding


# mmdet3d has registered a class of this name, for info files of its own; configs name classes, not texts.
@DATASETS.register_module(name='PointSemanticKittiDataset')
class SemanticKittiDataset(PointLabelDataset):
    """Scans of a SemanticKITTI tree, from the info files of `tools/create_data.py semantickitti`.

    A sample carries `frame_id` ('08_000123', also as `token`), `scene_token` ('08'), `lidar_path`, `num_pts_feats` (4),
    and where known `timestamp` in seconds and `global_from_lidar` (4, 4), the pose of the LiDAR in its sequence.
    The classes are the 19 of the single scan benchmark by default; with `metainfo=dict(classes=MULTI_SCAN_CLASSES)` the
    25 that tell moving objects apart.

    Arguments and errors are those of SingleFrameDataset.
    """

    own_entries = ('sequences', 'perception3d_*')
    format_names = (FORMAT.name,)
    default_classes = CLASSES
    result_suffix = '.label'

    def __init__(self, data_root: str, ann_file: str, metainfo: dict[str, Any] | None = None, **kwargs: Any) -> None:
        classes = (metainfo or {}).get('classes', CLASSES)
        colors = {'palette': [COLORS_RGB.get(name.removeprefix('moving-'), (255, 255, 255)) for name in classes]}
        super().__init__(data_root=data_root, ann_file=ann_file, metainfo={**colors, **(metainfo or {})}, **kwargs)

    def label_encoding(self) -> LabelEncoding:
        """Returns how the benchmark stores labels of the classes of this data set."""
        return label_encoding(tuple(self.metainfo['classes']))
