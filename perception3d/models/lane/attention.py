"""Attention maps of lane networks as pictures show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perception3d.checks import unknown_name
from perception3d.models.lane.outputs import STAGES, LaneOutputs
from perception3d.structures.image_maps import ImageMaps


def names_of_stages(keep: bool | Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the stages to keep: all for True, none for False.

    Raises:
        InputError: an unknown name.
    """
    names = (keep,) if isinstance(keep, str) else keep
    if isinstance(names, bool):
        return STAGES if names else ()
    for name in names:
        if name not in STAGES:
            raise unknown_name('stage of keep_attention', name, STAGES)
    return tuple(names)


def attention_maps(outputs: LaneOutputs, image: int, sample: Any, names: Sequence[str] = STAGES) -> ImageMaps:
    """Returns where the stages of a network are strong in one image of a batch.

    The map of a stage is the sum over its channels of squares, which self attention distillation normalises and
    compares (the loss `SelfAttentionKD`). Each is shown from 0 to its own largest value.

    Args:
        outputs: of the batch.
        image: number of the image in it.
        sample: of the image; its `img_from_stored` says which part of the image on disk entered the network.
        names: of the stages.
    """
    stages = dict(zip(STAGES, outputs.stages, strict=True))
    # A network that diverged has NaN in its maps.
    maps = [stages[name][image].detach().float().square().sum(0).nan_to_num(0.0, posinf=0.0) for name in names]
    metas = sample.metainfo
    placed = metas.get('img_from_stored')
    return ImageMaps(
        tuple(f'attention of {name}, {each.shape[1]} x {each.shape[0]} cells' for name, each in zip(names, maps)),
        tuple(each.cpu().numpy() for each in maps),
        None if placed is None else np.linalg.inv(np.asarray(placed, np.float64)[0, :3, :3]),
        metas.get('img_hw'),
    )
