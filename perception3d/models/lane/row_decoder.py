"""Lanes from class maps, one point a row: the rule by which SCNN and ENet-SAD write CULane results."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import UnivariateSpline
from torch import Tensor
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.lane.decoding import existing, stored_scale, stored_size
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import TASK_UTILS
from perception3d.structures.lanes import Lanes


@TASK_UTILS.register_module()
class RowDecoder:
    """Sets `pred_lanes` of a sample: for each lane that exists one point in each of some rows.

    The rule of the released SCNN and ENet (`prob2lines`): softmax; the mean of 9 x 9 pixels with zeros outside of the
    map; in rows of the stored image, counted from its lowest one, the column with the highest mean, kept where that is
    above 0.3; a lane with fewer than two points is left out. Rows and columns go to the stored image and back as there:
    pixel n, counted from 1, of the map is pixel `n * scale` rounded, counted from 1, of the image. Crop and resize are
    read from `img_from_stored`. The released code writes the probabilities into an 8-bit image before it reads rows;
    here they stay as they are.

    Args:
        row_step_px: rows between two points, in pixels of the stored image.
        num_rows: rows from the lowest one on; rows outside of the input are left out.
        threshold: of the mean.
        exist_threshold: of the existence; a lane is used above it.
        kernel: side of the square of the mean, odd; 1 for none.
        smooth_px: None writes the points; a number lets a cubic smoothing spline x(y) pass them with that standard
            deviation (an option of ours, not in the published rule). Lanes of five points or more.
        at_h_samples: rows are `h_samples` of the sample instead, as TuSimple lists them (pytorch-auto-drive decodes
            TuSimple like that).

    Raises:
        InputError: a setting is invalid.
    """

    def __init__(
        self,
        row_step_px: float = 20,
        num_rows: int = 18,
        threshold: float = 0.3,
        exist_threshold: float = 0.5,
        kernel: int = 9,
        smooth_px: float | None = None,
        at_h_samples: bool = False,
    ) -> None:
        if kernel < 1 or kernel % 2 == 0 or row_step_px <= 0 or num_rows < 2:
            raise InputError(
                f'kernel {kernel}, row_step_px {row_step_px} and num_rows {num_rows}: expected an odd kernel, a step '
                'above 0 and two rows or more'
            )
        self.row_step_px, self.num_rows = row_step_px, num_rows
        self.threshold, self.exist_threshold = threshold, exist_threshold
        self.kernel, self.smooth_px, self.at_h_samples = kernel, smooth_px, at_h_samples

    def decode(self, outputs: LaneOutputs, sample: Any) -> None:
        """Sets the lanes of one image; points are in pixels of the stored image, bottom first, scores are existence.

        Raises:
            InputError: the sample lacks `img_from_stored` or `stored_hw`.
        """
        logits = outputs.required('seg_logits', type(self).__name__)[0].float()
        sx, tx, sy, ty = stored_scale(sample.metainfo)
        # Counted from 1, as in the rule.
        stored = self._stored_rows(sample.metainfo)
        rows = _rounded(sy * stored + ty) - 1
        inside = (rows >= 0) & (rows < logits.shape[1]) & (stored >= 1)
        stored, rows = stored[inside], rows[inside]
        values, columns = (part.cpu().numpy() for part in self._row_means(logits, rows).max(2))
        scores = existing(outputs, self.exist_threshold)
        lines, labels = [], []
        for slot in np.flatnonzero(scores):
            kept = values[slot] > self.threshold
            if kept.sum() < 2:
                continue
            x = _rounded((columns[slot, kept] + 1 - tx) / sx) - 1
            y = _rounded(stored[kept]) - 1
            lines.append(np.stack([self._smoothed(x, y), y], 1))
            labels.append(slot)
        sample.pred_lanes = Lanes(tuple(lines), np.array(labels, np.int64), scores[labels])

    def _stored_rows(self, meta: dict[str, Any]) -> npt.NDArray[Any]:
        """Returns rows of the stored image, counted from 1, the lowest one first."""
        if not self.at_h_samples:
            return stored_size(meta)[0] - self.row_step_px * np.arange(self.num_rows)
        if 'h_samples' not in meta:
            raise InputError(
                "a sample has no 'h_samples', the rows that TuSimple lists: set at_h_samples=False for other data"
            )
        return np.sort(np.asarray(meta['h_samples'], np.float64))[::-1] + 1

    def _row_means(self, logits: Tensor, rows: npt.NDArray[Any]) -> Tensor:
        """Returns the means (L, R, W) around the pixels of rows (R,) of the map."""
        reach = self.kernel // 2
        near = torch.as_tensor(rows, device=logits.device)[:, None] + torch.arange(
            -reach, reach + 1, device=logits.device
        )
        inside = (near >= 0) & (near < logits.shape[1])
        bands = logits[:, near.clamp(0, logits.shape[1] - 1)].softmax(0)[1:]
        means = (bands * inside[:, :, None]).mean(2)
        return F.avg_pool1d(means, self.kernel, 1, reach, count_include_pad=True)

    def _smoothed(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.smooth_px is None or len(x) < 5:
            return x
        # Splines take rising arguments; rows fall.
        spline = UnivariateSpline(y[::-1], x[::-1], k=3, s=len(x) * self.smooth_px**2)
        smooth: npt.NDArray[Any] = spline(y)
        return smooth


def _rounded(values: Any) -> npt.NDArray[Any]:
    """Rounds halves up, as MATLAB does for positive numbers."""
    return np.floor(np.asarray(values, np.float64) + 0.5).astype(np.int64)
