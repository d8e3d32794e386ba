"""STCrowd frames for mmdet3d: a cloud, the left image where there is one, people, and people who are ignored."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from perception3d.datasets.box_dataset import SingleFrameBoxDataset
from perception3d.datasets.crowd_annotations import crowd_annotations
from perception3d.datasets.previous_clouds import link_previous
from perception3d.formats.stcrowd import FORMAT
from perception3d.formats.stcrowd.files import find_stored, read_camera, read_sequence
from perception3d.formats.stcrowd.info import camera_entry, frame_times
from perception3d.formats.stcrowd.results import write_frame
from perception3d.formats.stcrowd.rules import CLASSES
from perception3d.registry import DATASETS
from perception3d.structures.sample_schema import CAMERA_KEYS, FRAME_KEYS, LIDAR_KEYS, MMDET3D_KEYS, camera_keys

CROWD_META_KEYS = (*CAMERA_KEYS, *LIDAR_KEYS, *FRAME_KEYS, *MMDET3D_KEYS)
"""What `Pack3DDetInputs(meta_keys=...)` should keep of a frame; what a sample does not have is left out."""


@DATASETS.register_module()
class STCrowdDataset(SingleFrameBoxDataset):
    """Frames of STCrowd, from the info files of `tools/create_data.py stcrowd`.

    A sample has the keys of `structures.sample_schema`: `token` and `frame_id` ('012_000345'), `scene_token` (its
    sequence), `timestamp` (seconds), `previous_lidar_path` where its sequence has a frame before, and of the camera
    `left` its image and matrices, where there is an image. With labels it has `ann_info` in training and
    `eval_ann_info` in testing:

    - gt_bboxes_3d: LiDARInstance3DBoxes of 9 numbers; velocities are NaN where they are not known.
    - gt_labels_3d (N,), num_lidar_pts (N,) int64; occlusion (N,) int64, 0 to 2, -1 unknown; track_ids (N,) int64,
      -1 unknown.
    - ignored_bboxes_3d: (M, 9) float32, people who are neither objects nor background. AddIgnoredBoxes gives them to a
      training.

    Arguments and errors are those of SingleFrameBoxDataset; the class is `person` by default.

    Attributes:
        yaw_sign: 1 if a yaw in the annotations turns from x to y, -1 if from y to x, as the info file says; `metainfo`
            has it too.
    """

    own_entries = ('anno', 'pcd', 'left', 'right', 'split.json', 'camera.json', 'perception3d_*')
    format_names = (FORMAT.name,)
    default_classes = CLASSES
    result_suffix = '.people.json'
    yaw_sign: int = 1

    def _read(self, root: str, path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Returns the content of an info file, and its classes."""
        content, classes = super()._read(root, path)
        self.yaw_sign = int(content['metainfo'].get('yaw_sign', 1))
        return content, classes

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the parsed frames of the info file; `metainfo` gets the sign of the yaw, for the metric."""
        samples: list[dict[str, Any]] = super().load_data_list()
        self._metainfo['yaw_sign'] = self.yaw_sign
        return samples

    def parse_infos(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the samples of all infos of the file, each with the cloud before it in its sequence.

        `metainfo` then has the yaw sign, with which a metric writes.
        """
        self._metainfo['yaw_sign'] = self.yaw_sign
        return list(link_previous(super().parse_infos(infos)))

    def parse_data_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turns one info into a sample."""
        sample: dict[str, Any] = super().parse_data_info(info)
        images = sample.get('images')
        if images:
            views = {name: [view] for name, view in images.items()}
            # The base class has completed the path with modality=dict(use_camera=True).
            folder = '' if self.modality['use_camera'] else self.data_prefix.get('img', '')
            sample.update(_camera_sample(camera_keys(views, folder)))
        sample.pop('ignored', None)
        return sample

    def parse_ann_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Returns the people of a frame, and those who are ignored."""
        return crowd_annotations(super().parse_ann_info(info), info.get('ignored', ()))

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a cloud; in a tree of the data set also with its sequence, time and left image.

        Which image belongs to a cloud says `anno/SEQUENCE.json` alone. Without annotations there is no image, and the
        time is that in the name of the cloud, if it is one.

        Raises:
            InputError: as of `datasets.cloud_files.cloud_sample`; the annotations, the camera or the image cannot be
                read.
        """
        yield from link_previous(self._samples_of_files(path))

    def _samples_of_files(self, path: str | Path) -> Iterator[dict[str, Any]]:
        for sample in super().sample_from_file(path):
            cloud = Path(sample['lidar_path'])
            sample['scene_token'] = cloud.parent.name
            if len(cloud.parents) > 2 and (cloud.parents[2] / 'anno' / f'{cloud.parent.name}.json').is_file():
                sample.update(_of_tree(cloud))
            elif cloud.stem.replace('.', '', 1).isdecimal():
                sample['timestamp'] = float(cloud.stem)
            yield sample

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the result file of a sample: the layout of the annotations with scores.

        Raises:
            InputError: there is another file at `path`, which is not a result file.
        """
        write_frame(path, sample, self.yaw_sign)
        return True


def _camera_sample(keys: dict[str, Any]) -> dict[str, Any]:
    return {**keys, 'img_from_lidar': keys['stored_from_cam'] @ keys['cam_from_lidar']}


def _of_tree(cloud: Path) -> dict[str, Any]:
    """Returns what the annotations of its sequence say of a cloud: its time, and its left image where it has one."""
    root = cloud.parents[2]
    known = _frames_of(root, cloud.parent.name).get(cloud.name)
    if known is None:
        return {}
    time_s, image = known
    found: dict[str, Any] = {'timestamp': time_s}
    picture = find_stored(root, image)
    if picture is not None and (root / 'camera.json').is_file():
        view = camera_entry(read_camera(root / 'camera.json'), str(picture.relative_to(root)), root)
        found.update(_camera_sample(camera_keys({'left': [view]}, str(root))))
    return found


@lru_cache(maxsize=8)
def _frames_of(root: Path, name: str) -> dict[str, tuple[float, str]]:
    """Returns name of a cloud -> time in seconds and stored path of the left image of a sequence."""
    frames = read_sequence(root / 'anno' / f'{name}.json').frames
    found = {}
    for frame, time_s in zip(frames, frame_times(frames)):
        image = frame.image('left')
        found[Path(frame.cloud_path).name] = (time_s, image.path if image else '')
    return found
