"""The layout of BEV maps that hold the features of several frames in their channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perception3d.checks import InputError


@dataclass(frozen=True)
class FrameLayout:
    """Channels (stack * frames * C) of a lifted map (B, stack * frames * C, X, Y), C fastest.

    Attributes:
        stack: cells along the height times pyramid levels.
        frames: number of frames, the current one first.
    """

    stack: int
    frames: int

    def channels(self, lifted: Tensor) -> int:
        """Channels C of one frame at one height and level; InputError where they do not divide evenly."""
        channels, rest = divmod(lifted.shape[1], self.stack * self.frames)
        if rest:
            raise InputError(
                f'{lifted.shape[1]} channels are not a multiple of (height x levels) {self.stack} x frames '
                f'{self.frames}: set height, levels and frames of the loss to those of the network'
            )
        return channels

    def current_frame_only(self, lifted: Tensor) -> Tensor:
        """Returns a copy of the map with 0 in the channels of all frames but the current one."""
        channels = self.channels(lifted)
        # A factor for each channel keeps the memory layout of the map.
        kept = torch.arange(lifted.shape[1], device=lifted.device) // channels % self.frames == 0
        return lifted * kept.to(lifted.dtype)[:, None, None]
