"""Agnostic lane detection (arXiv 1905.03704): lanes of any number, by embeddings of pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.lane.image_size import checked_input
from perception3d.models.lane.outputs import LaneOutputs, LaneTargets
from perception3d.registry import MODELS
from perception3d.structures.lanes import IGNORED

# More than any number of a lane.
_IMAGE_KEY = 1 << 32


def discriminative_loss(
    embeddings: Tensor, instances: Tensor, pull: float = 0.5, push: float = 3.0, centre_weight: float = 0.001
) -> Tensor:
    """Returns how far embeddings are from the mean of their lane, and how near the means of two lanes are.

    Our formulation: the paper has no released code, and its loss cannot be verified. It is that of De Brabandere
    (arXiv 1708.02551) with hinges as in LaneNet: the mean over lanes of the mean over their pixels of
    max(0, |e - m| - pull)^2, plus the mean over pairs of lanes of max(0, push - |m_a - m_b|)^2, plus
    `centre_weight` times the mean of |m|. The mean over the images that have lanes; 0 without any.

    Args:
        embeddings: (B, E, H, W).
        instances: (B, H, W) int64: 0 background, 255 ignored, any other value a lane.
        pull, push: distances between embeddings; clusters separate where push > 2 * pull.
        centre_weight: of the norm of the means.
    """
    images, rows, columns = torch.nonzero((instances > 0) & (instances != IGNORED), as_tuple=True)
    vectors = embeddings.float().permute(0, 2, 3, 1)[images, rows, columns]
    # One number for each lane of each image, so that a GPU waits twice for a batch and not for each image.
    keys, owners = torch.unique(images * _IMAGE_KEY + instances[images, rows, columns].long(), return_inverse=True)
    lanes, own_image = len(keys), keys // _IMAGE_KEY
    sizes = vectors.new_zeros(lanes).index_add(0, owners, vectors.new_ones(len(owners)))
    means = vectors.new_zeros(lanes, vectors.shape[1]).index_add(0, owners, vectors) / sizes[:, None]
    far = (_norm(vectors - means[owners]) - pull).clamp(min=0) ** 2
    of_lane = vectors.new_zeros(lanes).index_add(0, owners, far) / sizes + centre_weight * _norm(means)
    pairs = (own_image[:, None] == own_image).triu(1)
    near = (push - _norm(means[:, None] - means)).clamp(min=0) ** 2 * pairs
    lanes_of = vectors.new_zeros(len(embeddings)).index_add(0, own_image, vectors.new_ones(lanes))
    pairs_of = (lanes_of * (lanes_of - 1) / 2)[own_image].clamp(min=1)
    total = (of_lane / lanes_of[own_image]).sum() + (near.sum(1) / pairs_of).sum()
    # Without lanes the gradient is 0, and not missing.
    return total / (lanes_of > 0).sum().clamp(min=1) + embeddings.sum() * 0.0


def _norm(vectors: Tensor) -> Tensor:
    # The root has no gradient at 0, where all embeddings are one.
    return (vectors.square().sum(-1) + 1e-12).sqrt()


@MODELS.register_module()
class LaneEmbeddingLoss(nn.Module):
    """`discriminative_loss` of `embeddings`.

    Args:
        pull, push: distances, as of the function.
        centre_weight: as of the function.

    Raises:
        InputError: lanes would not separate.
    """

    def __init__(self, pull: float = 0.5, push: float = 3.0, centre_weight: float = 0.001) -> None:
        super().__init__()
        if not 0 <= 2 * pull < push:
            raise InputError(f'pull is {pull} and push {push}: expected push above twice pull, or lanes would touch')
        self.pull, self.push, self.centre_weight = pull, push, centre_weight

    def forward(self, outputs: LaneOutputs, targets: LaneTargets) -> Tensor:
        """Returns the loss."""
        embeddings = outputs.required('embeddings', type(self).__name__)
        return discriminative_loss(embeddings, targets.instances, self.pull, self.push, self.centre_weight)


@MODELS.register_module()
class AgnosticLaneNet(nn.Module):
    """A lane network with one class for all lanes, and a branch that gives each pixel an embedding.

    The branch is ours: from the last stage a 3 x 3 convolution, a transposed one that doubles rows and columns, both
    with batch norm and ReLU, a 1 x 1 convolution to the embedding, enlarged bilinearly. The other tasks of the paper
    (drivable area, points of lanes) are not built.

    Args:
        base: config of `ENet`, `ERFNet` or `LaneResNet`, without `num_lanes`, `input_hw` and `exist`.
        channels: of the last stage of the base: 128 of ENet and ERFNet, 512 of LaneResNet 18 and 34, 2048 of 101.
        input_hw: height and width of the image, multiples of 8.
        embedding_size: E.

    Raises:
        InputError: `input_hw` is invalid.
    """

    num_lanes = 1

    def __init__(
        self, base: dict[str, Any], channels: int, input_hw: tuple[int, int] = (208, 976), embedding_size: int = 4
    ) -> None:
        super().__init__()
        self.input_hw = checked_input(input_hw)
        self.base = MODELS.build({**base, 'num_lanes': 1, 'input_hw': self.input_hw, 'exist': False})
        self.embed = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 2, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, embedding_size, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> LaneOutputs:
        """Returns the stages, the logits of background and lane, and the embeddings of images (B, 3, H, W)."""
        outputs = self.base(images)
        embeddings = self.embed(outputs.stages[-1])
        embeddings = F.interpolate(embeddings, self.input_hw, mode='bilinear', align_corners=False)
        return LaneOutputs(outputs.stages, outputs.seg_logits, None, embeddings)
