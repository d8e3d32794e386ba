"""The mode in which a model runs its network without decoding boxes, where it has one."""

from __future__ import annotations

from functools import singledispatch

from mmdet3d.models.detectors import MVXTwoStageDetector
from mmdet3d.models.detectors.two_stage import TwoStage3DDetector
from torch import nn


@singledispatch
def network_mode(model: nn.Module) -> str:
    """Returns the mode of `forward` that runs the network of a model, and as little else as the model can.

    'tensor', unless the class is registered: `network_mode.register(Class)`.
    """
    return 'tensor'


@network_mode.register(MVXTwoStageDetector)
@network_mode.register(TwoStage3DDetector)
def _with_decoding(model: nn.Module) -> str:
    # mmdet3d's detectors of several sensors or two stages do not implement the mode 'tensor'.
    return 'predict'
