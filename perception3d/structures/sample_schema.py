"""The keys of a sample, in every data set, pipeline, model and picture of this package.

A sample is the mapping that a data set returns (`parse_data_info`), that the steps of a pipeline change, and that the
packing step hands on as `metainfo`. Matrices are `a_from_b`: they take homogeneous points of frame b to frame a, and
chain left to right. The frames are

- `lidar`: the LiDAR frame of points and boxes as they are now, metres, z up; `lidar_axes` says how x and y lie.
- `cam`: a camera at the time of its image, metres, x right, y down, z along the view.
- `stored`: pixels of an image on disk, (u*d, v*d, d, 1) for a point at depth d; (0, 0) is the corner of the image.
- `img`: the same of the image as the network gets it, before padding; equal to `stored` until a step loads images.
- `ego`: the ego vehicle on the road, x forward, z up. `global`: the map.

So img_from_lidar = img_from_stored @ stored_from_cam @ cam_from_lidar. Whatever has one entry for each image (I) is in
the order frame * cameras + camera, frame 0 the current one, cameras as in `cam_names`; one camera is a list of one.
Sizes are (height, width). Models take `img_hw` as `valid_hw`; their `image_hw` is the size after padding.

mmdet3d's names (`lidar2cam`, `cam2img`, `lidar2img`, `img_path`, `lidar2ego`, `ego2global`, ..) stay in info files and
in the JSON frames of `infer`, whose layout is mmdet3d's; `camera_keys` and `from_mmdet3d` translate them. Steps of
mmdet3d move points and boxes, but no matrices, and note it in their own keys: `geometry.augmentation` reads those, and
`stored_from_lidar` takes them into account.
"""

from __future__ import annotations

import os.path as osp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.geometry.augmentation import aug_from_lidar


@dataclass(frozen=True)
class SampleKey:
    """What one key of a sample holds.

    Attributes:
        shape: 'I' for one entry each image, else as numbers; '' for a single value. Lists and arrays alike.
        text: what it is, its unit, who writes it and who reads it where that is not everyone.
    """

    shape: str
    text: str


CAMERA_KEYS = {
    'cam_names': SampleKey('N', 'names of the cameras of a frame'),
    'num_frames': SampleKey('', 'F, frames of the sample, so that I = F * N; 1 where it is not given'),
    'img_paths': SampleKey('I', "files of the images; '' for an image that the sample lacks"),
    'stored_hw': SampleKey('I 2', 'height and width of the images on disk, pixels'),
    'stored_from_cam': SampleKey('I 4 4', 'intrinsics of the images on disk, float64'),
    'cam_from_lidar': SampleKey('I 4 4', 'from the CURRENT LiDAR frame, float64; BEVAugment changes it'),
    'img_timestamps_s': SampleKey('I', 'when each image was taken, seconds; infinite for one that the sample lacks'),
    'img_from_stored': SampleKey('I 4 4', 'resize, crop, flip, rotation: LoadMultiViewHistory, then ImageAugment'),
    'img_from_lidar': SampleKey('I 4 4', 'product of the three, for models; of the image on disk in KITTI'),
    'img_hw': SampleKey('2', 'height and width of the images as the network gets them: as img_from_stored'),
    'only_ahead': SampleKey('', 'True where only what the one camera sees is labelled, as in KITTI'),
    'without_camera': SampleKey('', 'True for a KITTI cloud without a calibration: CropToImage keeps all its points'),
}
"""Keys of a sample with cameras; a data set writes them where nothing else is said."""

LIDAR_KEYS = {
    'lidar_axes': SampleKey('', "how the LiDAR frame lies, such as 'x forward, y left'"),
    'lidar_path': SampleKey('', 'file of the cloud; may be empty where only cameras are used'),
    'num_pts_feats': SampleKey('', 'float32 numbers of a point in that file, x, y, z in metres first'),
    'previous_lidar_path': SampleKey('', 'file of the cloud before in the same sequence, where there is one'),
    'previous_age_s': SampleKey('', 'seconds from that cloud to this one; LoadPreviousCloud reads both'),
    'aug_from_lidar': SampleKey('4 4', 'how BEVAugment moved points, boxes and cameras; models and pictures read it'),
    'ego_from_lidar': SampleKey('4 4', 'where the LiDAR is mounted, as stored; models that follow the ground, streams'),
    'global_from_ego': SampleKey('4 4', 'the ego pose at the time of the cloud; streams and the nuScenes metric'),
}
"""Keys of a sample with points, and of what the LiDAR frame is."""

FRAME_KEYS = {
    'token': SampleKey('', 'name of the sample, unique in its data set; also the name of its pictures'),
    'frame_id': SampleKey('', 'name of its files, where a data set has one file a frame'),
    'sample_idx': SampleKey('', 'number of the sample in its info file'),
    'scene_token': SampleKey('', 'scene or drive; a stream starts again where it changes'),
    'scene_name': SampleKey('', 'the same for readers'),
    'timestamp': SampleKey('', 'time of the sample, seconds'),
}
"""Keys of every sample, where known."""

POINT_LABEL_KEYS = {
    'pts_semantic_mask': SampleKey('N', 'index of the class of each point, int64; structures.point_labels.IGNORE'),
    'pts_instance_mask': SampleKey('N', 'which object each point belongs to, int64; 0 for none'),
    'pts_semantic_mask_path': SampleKey('', 'label file; LoadPointLabels reads it'),
    'label_encoding': SampleKey('', 'how that file is read: a structures.label_encoding.LabelEncoding'),
    'num_scored_points': SampleKey(
        '', 'the first so many points are scored, behind them are earlier ones; all without'
    ),
}
"""Keys of a sample with labels of points."""

LANE_KEYS = {
    'lanes': SampleKey('N', '(M, 2) float64 each: x, y in pixels of the stored image, as annotated; M may be 0 or 1'),
    'lane_slots': SampleKey('N', 'slot of each lane, from the left, int64; -1 for none'),
    'lane_exist': SampleKey('L', 'whether each of the L slots has a lane, 0 or 1'),
    'lane_mask_path': SampleKey('', 'PNG, 0 background, 1 + slot a lane, 255 ignored; without it `lanes` are drawn'),
    'lane_mask': SampleKey('H W', 'the same as an array, uint8, of the image as it is now; LoadLaneImage'),
    'lane_instances': SampleKey('H W', '1 + number of the lane, uint8, 0 background, 255 ignored; DrawLaneInstances'),
    'category': SampleKey('', 'one of the nine categories of CULane, where known'),
    'h_samples': SampleKey('M', 'rows in which TuSimple asks for points, stored pixels'),
    'steering_rad': SampleKey('', 'steering angle at the time of the image, to the left above 0'),
    'depth_path': SampleKey('', 'PNG of depths, uint16, 1/256 metre, 0 for none'),
    'semantic_path': SampleKey('', 'PNG of the class of each pixel, uint8'),
    'depth_m': SampleKey('H W', 'those depths in metres, float32, of the image as it is now; LoadPixelTargets'),
    'semantic': SampleKey('H W', 'those classes, 255 beyond the stored image; LoadPixelTargets'),
    'channel_order': SampleKey('', "'rgb' where the network's images are so, as of LoadLaneImage; 'bgr' without it"),
    'stored_image': SampleKey('H W 3', 'frame of a video, uint8 BGR, in place of the file of an image'),
}
"""Keys of a sample with lanes: one image, so that `img_paths`, `stored_hw` and `img_from_stored` have one entry."""

MMDET3D_KEYS = (
    'box_type_3d', 'box_mode_3d', 'pcd_horizontal_flip', 'pcd_vertical_flip', 'pcd_rotation', 'pcd_rotation_angle',
    'pcd_scale_factor', 'pcd_trans', 'transformation_3d_flow', 'flip',
)  # fmt: skip
"""What mmdet3d makes boxes with, and how its steps moved a frame; packing steps keep both."""

PER_IMAGE = tuple(name for name, key in CAMERA_KEYS.items() if key.shape.startswith('I'))
"""Keys with one entry for each image of each frame."""

RENAMED = {
    'lidar2cam': 'cam_from_lidar',
    'cam2img': 'stored_from_cam',
    'lidar2img': 'img_from_lidar',
    'img_post': 'img_from_stored',
    'img_path': 'img_paths',
    'img_sizes': 'stored_hw',
    'ori_shape': 'stored_hw',
    'image_hw': 'stored_hw',
    'img_shape': 'img_hw',
    'lidar2ego': 'ego_from_lidar',
    'ego2global': 'global_from_ego',
}
"""Earlier name of a key -> its name; some of the earlier ones are mmdet3d's."""


def camera_keys(views: Mapping[str, Sequence[Mapping[str, Any]]], folder: str = '') -> dict[str, Any]:
    """Returns the keys of the cameras of an info file, which describes them as mmdet3d does.

    Args:
        views: camera name -> its images, the current one first, each a mapping of `img_path`, `cam2img` (3 or 4, 3 or
            4), `lidar2cam` (4, 4), and where known `height` and `width`, which are those of the current one for all.
        folder: in which the paths are; an empty path stays empty.

    Returns:
        `cam_names`, `img_paths`, `stored_from_cam`, `cam_from_lidar`, and `stored_hw` where the sizes are known.
    """
    frames = range(len(next(iter(views.values()))))
    images = [views[name][frame] for frame in frames for name in views]
    keys = {
        'cam_names': list(views),
        'img_paths': [image['img_path'] and osp.join(folder, image['img_path']) for image in images],
        'stored_from_cam': _homogeneous(np.array([image['cam2img'] for image in images], np.float64)),
        'cam_from_lidar': _homogeneous(np.array([image['lidar2cam'] for image in images], np.float64)),
    }
    current = [view[0] for view in views.values()]
    if all('height' in image and 'width' in image for image in current):
        keys['stored_hw'] = [(image['height'], image['width']) for image in current] * len(frames)
    return keys


def from_mmdet3d(metas: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a sample of mmdet3d's own data sets, or an entry of an info file, with the camera keys of this package.

    A sample of this package comes back as it is. mmdet3d describes cameras in one of two ways: a single one by
    `img_path`, `cam2img` and `lidar2cam` (KITTI), or many by `images`, camera name -> those keys. Of `images` those
    without a path are left out.
    """
    if 'img_paths' in metas or 'stored_from_cam' in metas:
        return metas
    if all(metas.get(key) is not None and np.ndim(metas[key]) == 2 for key in ('cam2img', 'lidar2cam')):
        path = metas.get('img_path')
        view = {**metas, 'img_path': str(path) if isinstance(path, str | Path) else ''}
        # The folder is the name of the camera: image_2 is the left colour camera of KITTI.
        name = Path(view['img_path']).parent.name or 'camera'
        return {**metas, **camera_keys({name: [view]}), 'only_ahead': True}
    cameras = metas.get('images')
    listed = cameras.items() if isinstance(cameras, Mapping) else ()
    views = {name: [view] for name, view in listed if view.get('img_path')}
    return {**metas, **camera_keys(views)} if views else metas


def has_images_alone(metas: Mapping[str, Any]) -> bool:
    """Whether a sample is of images without a LiDAR, as of lanes: nothing of it is in metres."""
    return 'img_paths' in metas and not metas.keys() & {'stored_from_cam', 'img_from_lidar', 'lidar_path'}


def stored_from_lidar(metas: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Returns (I, 4, 4) float64 from the LiDAR frame of the points and boxes as they are now to the images on disk."""
    matrices = np.asarray(metas['stored_from_cam'], np.float64) @ np.asarray(metas['cam_from_lidar'], np.float64)
    return matrices @ np.linalg.inv(aug_from_lidar(metas))


def _homogeneous(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns matrices (I, 3 or 4, 3 or 4) in the upper left of (I, 4, 4) identities."""
    full = np.tile(np.eye(4), (len(matrices), 1, 1))
    full[:, : matrices.shape[1], : matrices.shape[2]] = matrices
    return full
