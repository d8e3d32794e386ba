"""From the images of a batch to the normalised input of a lane network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from perception3d.checks import InputError
from perception3d.registry import MODELS


@MODELS.register_module()
class LanePreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device, stacks its images and normalises them: `inputs['img']` (B, 3, H, W) float32.

    Args:
        mean: of red, green and blue, 0..255; the default is ImageNet's.
        std: of red, green and blue.
        non_blocking: as of mmengine's class.

    Raises:
        InputError: the images of a batch differ in size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        non_blocking: bool | None = False,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InputError(f'mean {list(mean)} and std {list(std)}: expected three numbers each, std above 0')
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Returns the batch on the device of the model."""
        data = self.cast_data(data)
        images, samples = data['inputs']['img'], data.get('data_samples')
        if not isinstance(images, Tensor):
            sizes = {tuple(image.shape[1:]) for image in images}
            if len(sizes) > 1:
                shown = ' and '.join(f'{width} x {height}' for height, width in sorted(sizes)[:2])
                raise InputError(
                    f'images of one batch have {shown} pixels: resize all to one size (CropResizeLaneImage), or use '
                    'batch_size=1'
                )
            images = torch.stack(list(images))
        return {'inputs': {'img': self.preprocess_img(images)}, 'data_samples': samples}

    def preprocess_img(self, images: Tensor) -> Tensor:
        """Returns images (..., 3, H, W) 0..255, RGB, normalised as float32."""
        return (images.float() - self.mean) / self.std
