"""The response of a model over the ground or an image, as a heatmap, and where in the model its logits are."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from torch import Tensor

from perception3d.checks import InputError
from perception3d.structures.heatmaps import Heatmaps


def response_map(model: Any, logits: Tensor) -> Heatmaps:
    """Returns the best class score in every cell of a model's BEV grid, on the range that the grid covers.

    It is that of the model's own method `response_map(logits)`, else that of its class. The maps of a model of images
    without a LiDAR cover the image that entered the network.

    Args:
        model: a detector.
        logits: (K, X, Y) class logits of one sample, or (K, Y, X) where the model's maps lie so.

    Raises:
        InputError: the model's logits are not a map of the ground.
    """
    method = getattr(model, 'response_map', None)
    return response_of_class(model, logits) if method is None else method(logits)


@singledispatch
def response_of_class(model: Any, logits: Tensor) -> Heatmaps:
    """Returns the response of a model without a method `response_map`.

    `response_of_class.register(Class)` registers a function for a class and its subclasses.

    Raises:
        InputError: the class is not registered, or the model's logits are not a map of the ground.
    """
    raise no_map(model)


def no_map(model: Any) -> InputError:
    """Returns the error of a model whose logits are not a map of the ground."""
    return InputError(
        f'{type(model).__name__} cannot be compared: only class logits on a map can be drawn. Give the model a method '
        'response_map(logits) if its logits are one'
    )


def response_tap(model: Any) -> str | None:
    """Returns the tap of the logits of a model: its attribute `response_tap`, else that of its class.

    None where the logits are not a map of the ground or of an image.
    """
    if hasattr(model, 'response_tap'):
        return model.response_tap or None
    return tap_of_class(model)


@singledispatch
def tap_of_class(model: Any) -> str | None:
    """Returns the tap of the logits of a model without an attribute `response_tap`: None, unless it is registered.

    `tap_of_class.register(Class)` registers a function for a class and its subclasses.
    """
    return None
