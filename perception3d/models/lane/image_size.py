"""The size of the images that a lane network takes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perception3d.checks import InputError


def checked_input(input_hw: Sequence[int]) -> tuple[int, int]:
    """Returns height and width of the input of a lane network; InputError unless both are multiples of 8."""
    height, width = (int(size) for size in input_hw)
    if height < 16 or width < 16 or height % 8 or width % 8:
        raise InputError(f'input_hw is {[height, width]}: expected height and width, multiples of 8 and 16 or more')
    return height, width


def checked_images(images: Tensor, input_hw: tuple[int, int]) -> Tensor:
    """Returns images (B, 3, H, W); InputError where they have another size than the network takes."""
    if tuple(images.shape[-2:]) != input_hw:
        raise InputError(
            f'images have {images.shape[-1]} x {images.shape[-2]} pixels, but the network takes {input_hw[1]} x '
            f'{input_hw[0]}: set input_hw of CropResizeLaneImage and of the model to one value'
        )
    return images
