"""One's own clouds with a label for each point."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.datasets.point_label_dataset import PointLabelDataset
from perception3d.formats.custom_points import FORMAT
from perception3d.formats.custom_points.files import CLASSES_FILE, classes_of_info, encoding_of_ids, read_classes
from perception3d.registry import DATASETS
from perception3d.structures.label_encoding import LabelEncoding


@DATASETS.register_module()
class CustomPointsDataset(PointLabelDataset):
    """Frames of clouds and label files, from the info files of `tools/create_data.py custom-points`.

    A sample carries `frame_id` (the NAME of its files, also as `token`), `lidar_path` and `num_pts_feats`.

    Args:
        data_root, ann_file, metainfo, kwargs: as of SingleFrameDataset; the classes are those of the info file by
            default, and points of classes that are not asked for are not labelled. `label_ids` of metainfo are the
            ids of the classes in label files where neither an info file nor a file of classes says them, as in
            inference; a checkpoint keeps them.
        classes_file: the file of classes whose ids `write_result` writes where no info file was read; by default
            `classes.json` next to a cloud or in the folder above.

    Raises:
        InputError: as of SingleFrameDataset.
    """

    own_entries = ('ImageSets', 'points', 'labels', CLASSES_FILE, 'perception3d_*')
    format_names = (FORMAT.name,)
    result_suffix = '.label'

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        metainfo: dict[str, Any] | None = None,
        classes_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._noted = False
        self._point_classes = None if classes_file is None else read_classes(classes_file)
        super().__init__(data_root=data_root, ann_file=ann_file, metainfo=metainfo, **kwargs)

    def label_encoding(self) -> LabelEncoding:
        """Returns how labels of the classes of this data set are stored."""
        encoding = self._known_encoding()
        if encoding is None:
            raise InputError(
                f'the ids of the classes are not known: no info file was read, and there is no {CLASSES_FILE}'
            )
        return encoding

    def _known_encoding(self) -> LabelEncoding | None:
        classes, ids = self.metainfo['classes'], self.metainfo.get('label_ids', ())
        found = classes_of_info(self.info_metainfo) or self._point_classes
        if found is not None:
            return found.encoding(classes)
        return encoding_of_ids(classes, ids) if len(ids) == len(classes) else None

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the parsed frames of the info file."""
        samples = super().load_data_list()
        encoding = self.label_encoding()
        # For the metric, which writes result files, and for checkpoints, whose models may run far from these files.
        self._metainfo['label_ids'] = list(encoding.id_of)
        return samples

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a cloud.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_sample`; the file of classes next to it cannot be used.
        """
        for folder in Path(path).resolve().parents[:2]:
            if self._point_classes is None and (folder / CLASSES_FILE).is_file():
                self._point_classes = read_classes(folder / CLASSES_FILE)
        yield from super().sample_from_file(path)

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the label file of a predicted sample; none, and a note once, where the ids of classes are not known.

        Raises:
            InputError: as of PointLabelDataset.
        """
        known = self._known_encoding() is not None
        if not known and not self._noted:
            self._noted = True
            print_log(
                f'no label files are written, since the ids of the classes are not known: put {CLASSES_FILE} next to '
                'the clouds, or set classes_file of the test data set',
                'current',
                logging.WARNING,
            )
        return known and super().write_result(sample, path)
