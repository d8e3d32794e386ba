"""Packing of a camera sample into what mmdet3d's data preprocessor and our detectors take."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet3d.datasets.transforms import Pack3DDetInputs

from perception3d.registry import TRANSFORMS

CAMERA_META_KEYS = (
    'img_from_lidar', 'num_frames', 'cam_names', 'img_paths', 'img_timestamps_s', 'lidar_path', 'sample_idx', 'token',
    'scene_token', 'scene_name', 'timestamp', 'ego2global', 'lidar2ego', 'aug_from_lidar', 'img_post', 'cam2img',
    'lidar2cam', 'img_shape', 'ori_shape', 'num_pts_feats', 'lidar_axes', 'box_type_3d', 'box_mode_3d',
)  # fmt: skip


@TRANSFORMS.register_module()
class PackCameraInputs(Pack3DDetInputs):
    """Packs `img` (I, 3, H, W), boxes and labels where present, and the metas that camera detectors read.

    Args:
        keys: What to pack next to the metas; what a sample does not have is left out.
        meta_keys: What goes into `metainfo` of the data sample.
    """

    def __init__(
        self,
        keys: Sequence[str] = ('img', 'gt_bboxes_3d', 'gt_labels_3d'),
        meta_keys: Sequence[str] = CAMERA_META_KEYS,
    ) -> None:
        super().__init__(keys=tuple(keys), meta_keys=tuple(meta_keys))
