"""The response of detectors over their BEV grid, as a heatmap: those that tell it themselves, and mmdet3d's."""

from __future__ import annotations

from collections.abc import Callable

from mmdet3d.models.detectors import Base3DDetector
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.structures.heatmaps import Heatmaps

# For classes of other packages, which have no method `response_map`: class -> function of a model and its logits.
_RESPONSES: dict[type[nn.Module], Callable[[nn.Module, Tensor], Heatmaps]] = {}


def register_response(cls: type[nn.Module]) -> Callable:
    """Registers the function that gives the response map of a class of models, and of its subclasses."""

    def register(function: Callable[[nn.Module, Tensor], Heatmaps]) -> Callable:
        _RESPONSES[cls] = function
        return function

    return register


def response_map(model: nn.Module, logits: Tensor) -> Heatmaps:
    """Returns the best class score in every cell of a model's BEV grid, on the range that the grid covers.

    Args:
        model: with a method `response_map(logits)`, or of a registered class.
        logits: (K, X, Y) class logits of one sample, or (K, Y, X) where the model's maps lie so.

    Raises:
        InputError: the model's logits are not a map of the ground.
    """
    own = getattr(model, 'response_map', None)
    if own is not None:
        return own(logits)
    for cls in type(model).__mro__:
        if cls in _RESPONSES:
            return _RESPONSES[cls](model, logits)
    raise _no_map(model)


@register_response(Base3DDetector)
def voxel_response(model: nn.Module, logits: Tensor) -> Heatmaps:
    """Returns the response of mmdet3d's detectors on voxels, whose maps (K, Y, X) cover the range of the voxels.

    Raises:
        InputError: the detector has no voxels.
    """
    voxels = getattr(getattr(model, 'data_preprocessor', None), 'voxel_layer', None)
    if voxels is None:
        raise _no_map(model)
    x0, y0, _, x1, y1, _ = map(float, voxels.point_cloud_range)
    return Heatmaps.of_logits(logits.transpose(1, 2), (x0, y0, x1, y1))


def _no_map(model: nn.Module) -> InputError:
    return InputError(
        f'{type(model).__name__} cannot be compared: only class logits on a map can be drawn. Give the model a method '
        'response_map(logits) if its logits are one'
    )
