"""The lane mask of an image as its result, as BDD100K has it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from mmengine.structures import PixelData

from perception3d.checks import InputError
from perception3d.models.lane.decoding import at_stored_pixels, stored_scale, stored_size
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import TASK_UTILS
from perception3d.structures.lanes import Lanes


@TASK_UTILS.register_module()
class MaskDecoder:
    """Sets `pred_lane_seg.lane_mask` of a sample, and `pred_lanes` for pictures.

    A pixel of the stored image is of the lane class with the highest probability, interpolated linearly, where that is
    above the threshold. Polylines follow the connected components of the map at its own size: the mean column of every
    few rows; their scores are the mean probability. They are for pictures: horizontal lines are left out.

    Args:
        keep_mask: set the mask, `PixelData(lane_mask=(1, H, W) uint8)`, 0 for background; it has the size of the
            stored image.
        threshold: of the probability.
        row_step_px: rows of the map between two points of a polyline.
        min_pixels: components of fewer pixels of the map are no lane.

    Raises:
        InputError: `threshold` is outside of 0..1.
    """

    def __init__(
        self, keep_mask: bool = True, threshold: float = 0.5, row_step_px: int = 8, min_pixels: int = 40
    ) -> None:
        if not 0 < threshold < 1:
            raise InputError(f'threshold is {threshold}: expected a number between 0 and 1')
        self.keep_mask, self.threshold = keep_mask, threshold
        self.row_step_px, self.min_pixels = row_step_px, min_pixels

    def decode(self, outputs: LaneOutputs, sample: Any) -> None:
        """Sets the mask and the polylines of one image."""
        logits = outputs.required('seg_logits', type(self).__name__)[0].float()
        maps = logits.softmax(0)[1:].cpu().numpy()
        meta = sample.metainfo
        if self.keep_mask:
            height, width = stored_size(meta)
            rows, columns = np.arange(height), np.arange(width)
            stored = np.stack([at_stored_pixels(values, meta, rows, columns) for values in maps])
            sample.pred_lane_seg = PixelData(lane_mask=torch.from_numpy(self._classes(stored)[None]))
        sample.pred_lanes = self._polylines(maps, meta)

    def _classes(self, maps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        classes: npt.NDArray[Any] = np.where(maps.max(0) > self.threshold, maps.argmax(0) + 1, 0).astype(np.uint8)
        return classes

    def _polylines(self, maps: npt.NDArray[Any], meta: dict[str, Any]) -> Lanes:
        sx, tx, sy, ty = stored_scale(meta)
        classes = self._classes(maps)
        lines, labels, scores = [], [], []
        for label, values in enumerate(maps):
            count, parts = cv2.connectedComponents((classes == label + 1).astype(np.uint8), connectivity=8)
            for part in range(1, count):
                rows, columns = np.nonzero(parts == part)
                if len(rows) < self.min_pixels:
                    continue
                pixels = np.bincount(rows)
                used = np.flatnonzero(pixels)[:: -self.row_step_px]
                if len(used) < 2:
                    continue
                x = np.bincount(rows, columns)[used] / pixels[used]
                lines.append(np.stack([(x + 0.5 - tx) / sx - 0.5, (used + 0.5 - ty) / sy - 0.5], 1))
                labels.append(label)
                scores.append(float(values[rows, columns].mean()))
        return Lanes(tuple(lines), np.array(labels, np.int64), np.array(scores))
