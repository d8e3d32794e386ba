"""A number for every lane of an image, whatever its slot."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from perception3d.checks import InputError
from perception3d.datasets.lane_masks import draw_lane_mask
from perception3d.registry import TRANSFORMS
from perception3d.structures.lanes import IGNORED


@TRANSFORMS.register_module()
class DrawLaneInstances(BaseTransform):
    """Draws each of `lanes` with a number of its own, as the image is now, lanes of no slot too.

    The step comes after those that move `img`: it moves the lanes by `img_from_stored`. Adds `lane_instances` (H, W)
    uint8: 0 background, 1 + k for lane k, 255 where `lane_mask` has 255 or a lane that is not drawn here, as at the
    edges of masks on disk. A sample without labels passes.

    Args:
        lane_width_px: width of drawn lanes, pixels of the stored image; CULane's masks have 16.

    Raises:
        InputError: an image has more than 254 lanes.
    """

    def __init__(self, lane_width_px: int = 16) -> None:
        if lane_width_px < 1:
            raise InputError(f'lane_width_px is {lane_width_px}: expected 1 or more')
        self.lane_width_px = lane_width_px

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the instances of a labelled sample."""
        if 'lanes' not in results:
            return results
        if len(results['lanes']) >= IGNORED:
            raise InputError(
                f'{results["img_paths"][0]} has {len(results["lanes"])} lanes: expected at most {IGNORED - 1}, the '
                'numbers of a mask of 8 bits'
            )
        move = results['img_from_stored'][0][:2, :3]
        # Matrices count from the corner of the image, points of lanes from the middle of the first pixel.
        lanes = [(lane + 0.5) @ move[:, :2].T + move[:, 2] - 0.5 for lane in results['lanes']]
        width = max(1, round(self.lane_width_px * float(np.sqrt(abs(np.linalg.det(move[:, :2]))))))
        instances = draw_lane_mask(lanes, np.arange(len(lanes)), results['img'].shape[:2], width)
        if 'lane_mask' in results:
            instances[(instances == 0) & (results['lane_mask'] > 0)] = IGNORED
        results['lane_instances'] = instances
        return results
