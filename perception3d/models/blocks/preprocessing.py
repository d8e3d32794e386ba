"""A batch of camera samples: what mmdet3d's preprocessor stacks must have the same cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet3d.models import Det3DDataPreprocessor
from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.registry import MODELS


@MODELS.register_module()
class CameraDataPreprocessor(Det3DDataPreprocessor):
    """mmdet3d's preprocessor that names the sample and the camera where the samples of a batch cannot be stacked.

    Samples of one data set always have the same cameras; those of several data sets may not. Arguments are those of
    mmdet3d's class.
    """

    def collate_data(self, data: dict) -> dict:
        """Returns the batch on the device of the model; InputError where cameras or frames differ."""
        images = data['inputs'].get('img')
        if isinstance(images, Sequence) and images and images[0].dim() == 4:
            _require_equal_views([len(image) for image in images], data.get('data_samples') or [])
        return super().collate_data(data)


def _require_equal_views(counts: Sequence[int], samples: Sequence[Any]) -> None:
    if len(set(counts)) == 1:
        return
    metas = [sample.metainfo for sample in samples]
    names = [tuple(meta.get('cam_names', ())) for meta in metas]
    fullest, least = counts.index(max(counts)), counts.index(min(counts))
    token = metas[least].get('token', least) if metas else least
    lacking = [name for name in names[fullest] if name not in names[least]] if metas else []
    what = f'sample {token} has no {", ".join(lacking)}' if lacking else f'sample {token} has {counts[least]} images'
    raise InputError(
        f'{what}, another sample of its batch has {counts[fullest]} images: give the data sets the same cameras '
        '(cameras=[...]) and num_frames, or use batch_size=1'
    )


def normalise_images(preprocessor: BaseDataPreprocessor, images: Tensor) -> Tensor:
    """Returns images (N, 3, H, W) 0..255 as float32, normalised as by a detector's data preprocessor, without padding.

    Raises:
        InputError: the preprocessor cannot normalise one image (`preprocess_img`, as mmdet3d's can).
    """
    normalise = getattr(preprocessor, 'preprocess_img', None)
    if normalise is None:
        raise InputError(
            f'data_preprocessor {type(preprocessor).__name__} cannot normalise images: it has no method '
            'preprocess_img; use CameraDataPreprocessor'
        )
    # One image of all cameras below each other: its channels are the first axis, as the method takes them.
    tall = images.transpose(0, 1).flatten(1, 2)
    return normalise(tall).unflatten(1, (len(images), images.shape[2])).transpose(0, 1)


def pad_images(preprocessor: BaseDataPreprocessor, images: Tensor) -> Tensor:
    """Returns normalised images (N, 3, H, W) padded at the bottom and on the right as by a data preprocessor."""
    height, width = images.shape[-2:]
    bottom, right = (-size % getattr(preprocessor, 'pad_size_divisor', 1) for size in (height, width))
    if not bottom and not right:
        return images
    return F.pad(images, (0, right, 0, bottom), value=float(preprocessor.pad_value))
