"""What the data sets of all formats share, whatever is annotated: classes, info files, raw files and results."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet3d.datasets.det3d_dataset import Det3DDataset
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.datasets.cloud_files import cloud_paths, cloud_sample
from perception3d.datasets.frame_infos import read_frame_infos, require_classes
from perception3d.datasets.pipeline_steps import check_class_lists
from perception3d.structures.base import Structure
from perception3d.structures.frame import X_FORWARD, LidarAxes


class FrameDataset(Det3DDataset):
    """mmdet3d's Det3DDataset with what commands ask of a data set: raw files, results, and where it may not write.

    It knows nothing of what is annotated; data sets of boxes derive from `datasets.box_dataset.BoxDataset`. A subclass
    has `load_data_list`, which returns samples with the keys of `structures.sample_schema`, and sets of the following
    what differs. All else has a default: `sample_from_file` for raw files that are clouds, `write_result` and
    `result_suffix` where the format has result files, `read_points` where its clouds are neither `.bin` nor `.npy`,
    `get_cat_ids` for wrappers that balance classes.

    Args:
        metainfo: dict(classes=...), the order of the labels; may be left out where METAINFO has `classes`.
        filter_empty_gt: leaves frames without boxes out of a training; only for data sets of boxes.
        kwargs: as of mmdet3d's Det3DDataset, by name.

    Attributes:
        METAINFO: what is known of every data set of the class, such as `classes`.
        lidar_axes: the axes of the LiDAR frame in words, see `structures.frame.LidarAxes`; `metainfo` has them as well,
            and `metainfo=dict(lidar_axes=...)` in a config, or METAINFO, states others.
        own_entries: patterns of the names in `data_root` that belong to the format. Results are not written there (see
            `engine/data_kept.py`).
        results_named_as_annotations: a result file has the path of the annotation below `data_root`, so that results
            are not written into `data_root` itself either.
        result_suffix: the end of the names of the format's result files of one frame; None where it has no such files.

    Raises:
        InputError: there are no classes, or a step of the pipeline has others; unknown axes.
    """

    METAINFO: dict[str, Any] = Det3DDataset.METAINFO
    lidar_axes: ClassVar[str] = X_FORWARD.text
    _has_boxes: ClassVar[bool] = False
    own_entries: ClassVar[tuple[str, ...]] = ()
    results_named_as_annotations: ClassVar[bool] = False
    result_suffix: ClassVar[str | None] = None

    def __init__(self, metainfo: dict[str, Any] | None = None, filter_empty_gt: bool = False, **kwargs: Any) -> None:
        classes = (metainfo or {}).get('classes')
        if not classes and 'classes' not in self.METAINFO:
            raise InputError(
                f'{type(self).__name__} has no classes: give metainfo=dict(classes=[...]), or METAINFO of the class '
                "an entry 'classes'"
            )
        if classes and not set(classes) <= set(self.METAINFO.get('classes', ())):
            # mmdet3d looks up numbers of classes here.
            self.METAINFO = {**self.METAINFO, 'classes': tuple(classes)}
        stated = {'lidar_axes': self.METAINFO.get('lidar_axes', self.lidar_axes), **(metainfo or {})}
        LidarAxes.from_text(stated['lidar_axes'])
        lazy_init = bool(kwargs.pop('lazy_init', False))
        super().__init__(
            metainfo=stated, filter_empty_gt=filter_empty_gt, lazy_init=lazy_init or not self._has_boxes, **kwargs
        )
        if not lazy_init and not self._has_boxes:
            # Here and not by mmdet3d, which would log a table of the boxes of each class as well, all of them 0.
            self.show_ins_var = False
            self.full_init()
            print_log(f'The length of {"test" if self.test_mode else "training"} dataset: {len(self)}', 'current')
        check_class_lists(self.ann_file, self.pipeline, self.metainfo['classes'])

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Reads the metainfo, without the warning of mmengine that the text of the axes is not the name of a file."""
        stated = dict(metainfo or {})
        axes = {'lidar_axes': stated.pop('lidar_axes')} if 'lidar_axes' in stated else {}
        return {**super()._load_metainfo(stated), **axes}

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the samples of a raw file, ready for the test pipeline: here the one of a cloud.

        Those of all clouds of a folder, in the order of their names, which is taken for the order of time.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_paths` and `cloud_sample`.
        """
        for cloud in cloud_paths(path):
            yield {**cloud_sample(cloud, self.pipeline), 'lidar_axes': self._metainfo['lidar_axes']}

    def read_points(self, info: Mapping[str, Any]) -> np.ndarray | None:
        """Returns the cloud of a stored sample for its picture, (N, 3 or more) metres in the LiDAR frame.

        None, the default, stands for the file `lidar_path`: `.npy`, or raw float32 with `num_pts_feats` a point.
        """
        return None

    def read_annotations(self, info: Mapping[str, Any]) -> dict[str, Structure]:
        """Returns the annotated structures of a stored sample that are in files of their own, for its picture.

        By names with the prefix `gt_`. The default is none: boxes are in the sample itself.
        """
        return {}

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the result file of a predicted sample, if the sample has all that the format needs.

        Args:
            sample: mmdet3d's Det3DDataSample with its predictions.
            path: the file, whose name ends in `result_suffix`.

        Returns:
            Whether the file was written.

        Raises:
            InputError: there is another file at `path`, which is not a result file.
        """
        return False

    def get_cat_ids(self, idx: int) -> set[int]:
        """Returns the labels in a frame, for wrappers that balance classes: a subclass knows them.

        Raises:
            InputError: the subclass does not state them.
        """
        raise InputError(
            f'{type(self).__name__} does not state which classes frame {idx} of {self.ann_file} has, so its classes '
            'cannot be balanced: give the class a method get_cat_ids(idx), or leave the wrapper out'
        )


class SingleFrameDataset(FrameDataset):
    """Frames that are known by an id, from the info files of `tools/create_data.py FORMAT`.

    A sample carries `frame_id`, the NAME of its files, also as `token`, and an empty `ann_info` in training, or
    `eval_ann_info` in testing where the frame is labelled, which `parse_ann_info` of a subclass may fill. A subclass
    sets `format_names`; data sets of boxes derive from `datasets.box_dataset.SingleFrameBoxDataset`.

    Args:
        data_root: the folder of the tree.
        ann_file: info file, relative to data_root. An info has `frame_id`, `labelled`, `lidar_points` (`lidar_path`
            relative to data_root, `num_pts_feats`), and of boxes `instances`.
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
        **kwargs: Any,
    ) -> None:
        metainfo = dict(metainfo or {})
        if 'classes' not in metainfo:
            metainfo['classes'] = self.default_classes or self._read(data_root, osp.join(data_root, ann_file))[1]
        # mmdet3d looks up numbers of classes here; the infos have names.
        self.METAINFO = {**self.METAINFO, 'classes': tuple(metainfo['classes'])}
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            metainfo=metainfo,
            data_prefix=data_prefix or dict(pts='', img=''),
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
        return self.parse_infos(infos)

    def parse_infos(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the samples of all infos of the file."""
        return [self.parse_data_info(info) for info in infos]

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        info.setdefault('instances', [])
        sample: dict[str, Any] = super().parse_data_info(info)
        # mmdet3d has None for a frame without boxes.
        sample.update({key: {} for key in ('ann_info', 'eval_ann_info') if key in sample and sample[key] is None})
        sample.update(token=info['frame_id'], lidar_axes=self._metainfo['lidar_axes'])
        if not info['labelled']:
            sample.pop('eval_ann_info', None)
        # They are in ann_info as arrays, and a data set of thousands of frames should not hold them twice.
        del sample['instances']
        return sample


def require_members(dataset: Any, names: Sequence[str], place: str) -> None:
    """Raises InputError for methods and attributes that a command asks of a data set and that this one lacks.

    Args:
        dataset: of any class.
        names: what the command uses.
        place: where the data set is configured, for the error.
    """
    missing = [name for name in names if not hasattr(dataset, name)]
    if missing:
        raise InputError(
            f'{place}, {type(dataset).__name__}, has no {", ".join(missing)}: derive it from '
            'perception3d.datasets.frame_dataset.FrameDataset, which has them'
        )
