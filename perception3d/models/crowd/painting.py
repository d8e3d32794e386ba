"""People in a cloud whose points are painted with features of one camera image, where the camera sees them.

Our formulation (the paper's code was never released, see `head`), after PointPainting (arXiv 1911.10150), which paints
class scores, and PointAugmenting (CVPR 2021), which paints features. STCrowd's camera sees about half of the labelled
sector: a point outside of it gets zeros, and a last number says whether it was seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from mmdet3d.models.detectors import VoxelNet
from torch import Tensor
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.registry import MODELS
from perception3d.structures.export_spec import ExportSpec, ReadSample, spec_of_class

PIXEL_NUMBERS = 3
"""How many numbers `AddImagePixels` adds to a point: u and v in pixels of the network's image, and 1 where seen."""


def features_at(maps: Tensor, pixels: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Returns (N, C) float32: a map (C, h, w) of an image read bilinearly at pixels (N, 2) of u, v.

    Args:
        maps: covers the whole image, whatever its stride.
        pixels: (0, 0) is the corner of the image; outside of it the border is read.
        image_hw: size of the image of the map, padding included.
    """
    size = pixels.new_tensor([image_hw[1], image_hw[0]])
    grid = (2 * pixels / size - 1)[None, None].float()
    with torch.autocast(maps.device.type, enabled=False):
        found = F.grid_sample(maps[None].float(), grid, align_corners=False, padding_mode='border')
    return found[0, :, 0].T


@MODELS.register_module()
class PaintedVoxelNet(VoxelNet):
    """mmdet3d's VoxelNet on points with image features: [point, feature, seen] go to the encoder of voxels.

    Points come from AddImagePixels, which knows the projection before any augmentation moves them. A batch without a
    seen point, as of clouds without images, does not run the image network in inference.

    Args:
        image_backbone, image_neck: settings of networks of an image; of the maps of the neck the first is read.
        image_channels: its channels. The encoder of voxels takes as many more numbers a point, and one.
        kwargs: as of VoxelNet.
    """

    more_than_a_cloud = 'an image, and the pixels of its points'
    """What it needs next to one cloud; for what makes clouds up."""

    def __init__(
        self, image_backbone: dict[str, Any], image_neck: dict[str, Any], image_channels: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.image_backbone = MODELS.build(image_backbone)
        self.image_neck = MODELS.build(image_neck)
        self.image_channels = image_channels

    def extract_feat(self, batch_inputs_dict: dict) -> Any:
        """Returns the maps of the neck.

        Raises:
            InputError: the samples have no images, or their points no pixels.
        """
        voxels = dict(batch_inputs_dict['voxels'])
        images = batch_inputs_dict.get('imgs')
        if images is None or voxels['voxels'].shape[-1] <= PIXEL_NUMBERS + 2:
            raise InputError(
                f'{type(self).__name__} needs the pixels of its points: put AddImagePixels behind the loading of the '
                "points, and keys=['points', 'img', ..] into the packing step"
            )
        voxels['voxels'] = self.painted(voxels, images)
        return super().extract_feat({**batch_inputs_dict, 'voxels': voxels})

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Returns that of a detector on pillars; the network of the image is outside of the file."""
        spec = spec_of_class(self, read_sample)
        return replace(spec, before=f'image to features, which are added to the points, {spec.before}')

    def painted(self, voxels: dict[str, Tensor], images: Tensor) -> Tensor:
        """Returns voxels (V, P, F + C + 1) of voxels (V, P, F + 3) and images (B, 3, H, W); rows beyond a count stay 0.

        Args:
            voxels: `voxels`, `num_points` (V,) and `coors` (V, 4), batch first, of the preprocessor.
            images: normalised.
        """
        rows, counts, clouds = voxels['voxels'], voxels['num_points'], voxels['coors'][:, 0]
        points, pixels, seen = rows[..., :-PIXEL_NUMBERS], rows[..., -PIXEL_NUMBERS:-1], rows[..., -1:]
        real = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]
        seen = seen * real[..., None]
        paint = rows.new_zeros(*rows.shape[:2], self.image_channels)
        if self.training or bool(seen.any()):
            image_hw = int(images.shape[2]), int(images.shape[3])
            maps = self.image_neck(self.image_backbone(images))[0]
            for k in range(len(images)):
                # Unseen ones too: the gradient of the image network is 0 then, and not missing.
                own = real & (clouds == k)[:, None]
                paint[own] = features_at(maps[k], pixels[own], image_hw)
        return torch.cat([points, paint * seen, seen], -1)
