"""Packing of a camera sample into what mmdet3d's data preprocessor and our detectors take."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet3d.datasets.transforms import Pack3DDetInputs

from perception3d.checks import InputError
from perception3d.registry import TRANSFORMS
from perception3d.structures.sample_schema import CAMERA_KEYS, FRAME_KEYS, LIDAR_KEYS, RENAMED

CAMERA_META_KEYS = (*CAMERA_KEYS, *LIDAR_KEYS, *FRAME_KEYS, 'box_type_3d', 'box_mode_3d')
"""All keys of the sample schema, and what mmdet3d's boxes are made with; what a sample does not have is left out."""


@TRANSFORMS.register_module()
class PackCameraInputs(Pack3DDetInputs):
    """Packs `img` (I, 3, H, W), boxes and labels where present, and the metas that camera detectors read.

    Args:
        keys: What to pack next to the metas; what a sample does not have is left out.
        meta_keys: What goes into `metainfo` of the data sample.

    Raises:
        InputError: a key has another name by now.
    """

    def __init__(
        self,
        keys: Sequence[str] = ('img', 'gt_bboxes_3d', 'gt_labels_3d'),
        meta_keys: Sequence[str] = CAMERA_META_KEYS,
    ) -> None:
        super().__init__(keys=tuple(keys), meta_keys=tuple(meta_keys))

    def transform(self, results: dict) -> dict:
        """Returns the packed sample."""
        for key in self.meta_keys:
            # A step of one's own may write such a key for a detector of mmdet3d.
            if key in RENAMED and key not in results:
                raise InputError(f'meta_keys of {type(self).__name__}: {key!r} is now {RENAMED[key]!r}')
        return super().transform(results)
