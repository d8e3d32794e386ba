"""What the data sets of all formats share: boxes by index, samples of raw files, and result files of the format."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mmdet3d.datasets.det3d_dataset import Det3DDataset

from perception3d.checks import InputError
from perception3d.datasets.cloud_files import cloud_sample
from perception3d.datasets.frame_infos import label_by_name, read_frame_infos, require_classes
from perception3d.datasets.object_count import ObjectCount, count_labels, object_range
from perception3d.datasets.pipeline_steps import check_class_lists
from perception3d.structures.frame import X_FORWARD


class FrameDataset(Det3DDataset):
    """mmdet3d's Det3DDataset with what commands ask of a data set: raw files, results, and where it may not write.

    Attributes:
        METAINFO: `lidar_axes` states the axes of the LiDAR frame, see `structures.frame.LidarAxes`;
            `metainfo=dict(lidar_axes=...)` states another.
        own_entries: patterns of the names in `data_root` that belong to the format. Results are not written there (see
            `engine/data_kept.py`).
        result_suffix: the end of the names of the format's result files of one frame; None where it has no such files.
    """

    METAINFO: dict[str, Any] = {**Det3DDataset.METAINFO, 'lidar_axes': X_FORWARD.text}
    own_entries: ClassVar[tuple[str, ...]] = ()
    result_suffix: ClassVar[str | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_class_lists(self.ann_file, self.pipeline, self.metainfo['classes'])

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the samples of a raw file, ready for the test pipeline: here the one of a cloud.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_sample`.
        """
        yield {**cloud_sample(path, self.pipeline), 'lidar_axes': self._metainfo['lidar_axes']}

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the result file of a predicted sample, if the sample has all that the format needs.

        Args:
            sample: mmdet3d's Det3DDataSample with `pred_instances_3d`.
            path: the file, whose name ends in `result_suffix`.

        Returns:
            Whether the file was written.

        Raises:
            InputError: there is another file at `path`, which is not a result file.
        """
        return False

    def get_ann_info(self, index: int) -> dict[str, Any]:
        """Returns boxes and labels of a frame, in training and in test mode."""
        sample = self.get_data_info(index)
        key = 'eval_ann_info' if self.test_mode else 'ann_info'
        if key not in sample:
            raise InputError(f'frame {sample["token"]} of {self.ann_file} has no labels')
        return sample[key]

    def get_cat_ids(self, idx: int) -> set[int]:
        """Returns the labels in a frame, for wrappers that balance classes; those of untrained classes are left out."""
        return set(self.get_ann_info(idx)['gt_labels_3d'].tolist()) - {-1}


class SingleFrameDataset(FrameDataset):
    """Frames that are known by an id, from the info files of `tools/create_data.py FORMAT`.

    A sample carries `frame_id`, the NAME of its files, also as `token`. Boxes of classes that are not asked for are
    left out. Frames without objects stay. With `filter_empty_gt`, which mmdet3d's data sets have by default, another
    frame takes the place of one without objects.

    Args:
        data_root: the folder of the tree.
        ann_file: info file, relative to data_root.
        metainfo: dict(classes=...), the order of the labels; by default `default_classes`, or those of the info file.
        data_prefix, filter_empty_gt, kwargs: as of mmdet3d's Det3DDataset.

    Attributes:
        format_names: the name of the format, then older ones, which older info files have.
        default_classes: None for those of the info file.

    Raises:
        InputError: the info file is missing, or of another format or tool, or does not know a class; training without
            labels.
    """

    format_names: ClassVar[tuple[str, ...]]
    default_classes: ClassVar[tuple[str, ...] | None] = None

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        metainfo: dict[str, Any] | None = None,
        data_prefix: dict[str, str] | None = None,
        filter_empty_gt: bool = False,
        **kwargs: Any,
    ) -> None:
        metainfo = dict(metainfo or {})
        if 'classes' not in metainfo:
            metainfo['classes'] = self.default_classes or self._read(data_root, osp.join(data_root, ann_file))[1]
        # The base class looks up numbers of classes here; the infos have names.
        self.METAINFO = {'classes': tuple(metainfo['classes'])}
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            metainfo=metainfo,
            data_prefix=data_prefix or dict(pts='', img=''),
            filter_empty_gt=filter_empty_gt,
            **kwargs,
        )

    def _read(self, root: str, path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Returns the content of an info file, and its classes."""
        name, *aliases = self.format_names
        content = read_frame_infos(path, name, root, aliases)
        return content, tuple(content['metainfo']['categories'])

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the parsed frames of the info file."""
        content, _ = self._read(self.data_root, self.ann_file)
        infos, classes = content['data_list'], self.metainfo['classes']
        require_classes(self.ann_file, classes, content)
        if not self.test_mode and not all(info['labelled'] for info in infos):
            raise InputError(f'{self.ann_file} has frames without labels: train on another split, or set test_mode')
        self._metainfo.update({key: content['metainfo'][key] for key in ('dataset', 'split')})
        self.object_count: ObjectCount = count_labels(self.ann_file, infos, classes, object_range(self.pipeline))
        samples = [self.parse_data_info(info) for info in infos]
        if not self.test_mode:
            for sample in samples:
                self.object_count.add_places(sample['ann_info']['gt_bboxes_3d'].tensor.numpy())
        return samples

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        label_by_name(info, self.metainfo['classes'])
        sample: dict[str, Any] = super().parse_data_info(info)
        sample.update(token=info['frame_id'], lidar_axes=self._metainfo['lidar_axes'])
        if not info['labelled']:
            sample.pop('eval_ann_info', None)
        # They are in ann_info as arrays, and a data set of thousands of frames should not hold them twice.
        del sample['instances']
        return sample

    def parse_ann_info(self, info: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the frame's boxes of the classes as arrays: gt_bboxes_3d, gt_labels_3d, difficulty, and so on."""
        annotations: dict[str, Any] | None = super().parse_ann_info(info)
        if annotations is not None:
            annotations.pop('instances', None)
        return annotations
