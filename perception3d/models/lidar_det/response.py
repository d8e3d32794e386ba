"""The response of mmdet3d's detectors over their BEV grid, and the tap of its logits: registered for their classes."""

from __future__ import annotations

from mmdet3d.models.detectors import Base3DDetector
from mmengine.model import BaseModel
from torch import Tensor, nn

from perception3d.structures.heatmaps import Heatmaps
from perception3d.structures.response_map import no_map, response_of_class, tap_of_class


@response_of_class.register(Base3DDetector)
def _voxel_response(model: nn.Module, logits: Tensor) -> Heatmaps:
    """Returns the response of mmdet3d's detectors on voxels, whose maps (K, Y, X) cover the range of the voxels.

    Raises:
        InputError: the detector has no voxels.
    """
    voxels = getattr(getattr(model, 'data_preprocessor', None), 'voxel_layer', None)
    if voxels is None:
        raise no_map(model)
    x0, y0, _, x1, y1, _ = map(float, voxels.point_cloud_range)
    return Heatmaps.of_logits(logits.transpose(1, 2), (x0, y0, x1, y1))


@tap_of_class.register(BaseModel)
def _tap_of_head(model: nn.Module) -> str | None:
    """Returns the first output of a head with the name that mmdet3d gives it; None without such a head."""
    return 'bbox_head[0]' if hasattr(model, 'bbox_head') else None
