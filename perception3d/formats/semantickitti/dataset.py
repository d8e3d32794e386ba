"""SemanticKITTI scans with a label for each point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perception3d.checks import InputError
from perception3d.datasets.point_label_dataset import PointLabelDataset
from perception3d.formats.semantickitti import FORMAT
from perception3d.formats.semantickitti.files import CLASSES, label_encoding
from perception3d.formats.semantickitti.poses import read_poses, read_times
from perception3d.formats.semantickitti.scans import GapLimits, earlier_scans_of, join_scans
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

    Args:
        data_root, ann_file, metainfo, kwargs: as of SingleFrameDataset.
        earlier_scans: how many scans before the current one the step `LoadEarlierScans` adds; the first scans of a
            sequence have fewer.
        max_gap_s, max_gap_m: a scan that is further from the scan after it, in seconds or in metres, is of another
            drive: it and those before it are not added. Consecutive scans of the real data set are 0.1 s apart.

    Raises:
        InputError: as of SingleFrameDataset; with `earlier_scans` also where a scan has no pose.
    """

    own_entries = ('sequences', 'perception3d_*')
    format_names = (FORMAT.name,)
    default_classes = CLASSES
    result_suffix = '.label'

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        metainfo: dict[str, Any] | None = None,
        earlier_scans: int = 0,
        max_gap_s: float = 1.0,
        max_gap_m: float = 100.0,
        **kwargs: Any,
    ) -> None:
        if earlier_scans < 0:
            raise InputError(f'earlier_scans is {earlier_scans}: expected 0 or more')
        self.earlier_scans, self._limits = earlier_scans, GapLimits(max_gap_s, max_gap_m)
        super().__init__(data_root=data_root, ann_file=ann_file, metainfo=metainfo, **kwargs)

    def label_encoding(self) -> LabelEncoding:
        """Returns how the benchmark stores labels of the classes of this data set."""
        return label_encoding(tuple(self.metainfo['classes']))

    def parse_infos(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the samples of all infos of the file, each with its earlier scans."""
        samples = super().parse_infos(infos)
        if self.earlier_scans:
            join_scans(samples, self.earlier_scans, self._limits, self.ann_file)
        return samples

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a cloud; its earlier scans where the cloud lies in a tree with poses.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_sample`; a pose cannot be read.
        """
        for sample in super().sample_from_file(path):
            if self.earlier_scans:
                sample['earlier_scans'] = _scans_before(Path(sample['lidar_path']), self.earlier_scans, self._limits)
            yield sample


def _scans_before(cloud: Path, count: int, limits: GapLimits) -> list[dict[str, Any]]:
    """Returns the scans before `sequences/08/velodyne/000123.bin`, the last one first; none of a cloud elsewhere."""
    folder = cloud.parents[1]
    if not cloud.stem.isdigit() or not all((folder / name).is_file() for name in ('poses.txt', 'calib.txt')):
        return []
    number, times = int(cloud.stem), folder / 'times.txt'
    poses = read_poses(folder, number + 1)
    times_s = read_times(times, number + 1) if times.is_file() else None
    scans = [
        {
            'frame_id': f'_{k}',
            'lidar_path': str(cloud.with_name(f'{k:06d}.bin')),
            'global_from_lidar': poses[k],
            **({} if times_s is None else {'timestamp': float(times_s[k])}),
        }
        for k in range(max(0, number - count), number + 1)
    ]
    return earlier_scans_of(scans[-1], scans[-2::-1], limits)
