"""Lanes from embeddings of pixels: mean shift, then one polyline for each cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.models.lane.decoding import stored_points, stored_scale
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import TASK_UTILS
from perception3d.structures.lanes import Lanes

_STEPS = 20
_NEAR = 1e-3


def mean_shift(vectors: npt.NDArray[Any], bandwidth: float, max_clusters: int) -> npt.NDArray[Any]:
    """Returns the cluster (N,) of each vector, numbered in the order in which they are found, -1 for none.

    From the first vector without a cluster, the centre moves to the mean of the vectors within `bandwidth` until it
    converges; those within it are a cluster, and the next one is sought among the others.

    Args:
        vectors: (N, E).
        bandwidth: radius, as the vectors.
        max_clusters: vectors that are left after so many clusters have none.
    """
    clusters = np.full(len(vectors), -1, np.int64)
    for number in range(max_clusters):
        left = np.flatnonzero(clusters < 0)
        if not len(left):
            break
        rest, centre = vectors[left], vectors[left[0]]
        for _ in range(_STEPS):
            near = np.linalg.norm(rest - centre, axis=1) <= bandwidth
            moved = rest[near].mean(0)
            done = np.linalg.norm(moved - centre) < _NEAR * bandwidth
            centre = moved
            if done:
                break
        near = np.linalg.norm(rest - centre, axis=1) <= bandwidth
        # The mean of vectors far apart may have none near it.
        near[0] |= not near.any()
        clusters[left[near]] = number
    return clusters


@TASK_UTILS.register_module()
class ClusterDecoder:
    """Clusters the embeddings of lane pixels; a lane is the mean x of its pixels in each row, by probability.

    Our rule, as the paper's clustering was not released. Labels of lanes are -1: they have no slot. The score of a lane
    is the mean probability of its pixels.

    Args:
        row_step: every such row of the map is read, from the lowest up.
        threshold: pixels with a probability of lane above it are clustered.
        bandwidth: radius of a cluster; half of `push` of `LaneEmbeddingLoss` lies between two lanes.
        min_rows: lanes that have pixels in fewer rows are left out.
        min_pixels: and those of fewer pixels.
        max_clusters: at most so many are sought, from the lowest pixels up; those left out by size count too.
            Embeddings of an untrained network are thousands of clusters, of a trained one about as many as lanes.

    Raises:
        InputError: a setting is invalid.
    """

    def __init__(
        self,
        row_step: int = 8,
        threshold: float = 0.5,
        bandwidth: float = 1.5,
        min_rows: int = 3,
        min_pixels: int = 8,
        max_clusters: int = 64,
    ) -> None:
        if row_step < 1 or bandwidth <= 0 or min_rows < 2 or max_clusters < 1:
            raise InputError(
                f'row_step {row_step}, bandwidth {bandwidth}, min_rows {min_rows} and max_clusters {max_clusters}: '
                'expected a step of 1 or more, a bandwidth above 0, two rows or more and at least one cluster'
            )
        self.row_step, self.threshold, self.bandwidth = row_step, threshold, bandwidth
        self.min_rows, self.min_pixels, self.max_clusters = min_rows, min_pixels, max_clusters

    def decode(self, outputs: LaneOutputs, sample: Any) -> None:
        """Sets the lanes of one image; points are in pixels of the stored image, bottom first.

        Raises:
            InputError: the network gives no embeddings; the sample lacks `img_from_stored`.
        """
        name = type(self).__name__
        logits = outputs.required('seg_logits', name)[0].float()
        embeddings = outputs.required('embeddings', name)[0].float()
        height = logits.shape[1]
        rows = np.arange(height - 1, -1, -self.row_step)
        # Background is the first class.
        lane = 1 - logits[:, rows.tolist()].softmax(0)[0].cpu().numpy().astype(np.float64)
        vectors = embeddings[:, rows.tolist()].cpu().numpy().astype(np.float64)
        row, column = np.nonzero(lane > self.threshold)
        clusters = mean_shift(vectors[:, row, column].T, self.bandwidth, self.max_clusters)
        scale = stored_scale(sample.metainfo)
        lines, scores = [], []
        for number in range(clusters.max(initial=-1) + 1):
            of_lane = clusters == number
            used = np.unique(row[of_lane])
            if len(used) < self.min_rows or of_lane.sum() < self.min_pixels:
                continue
            weights = lane[row[of_lane], column[of_lane]]
            sums = np.bincount(row[of_lane], weights * column[of_lane], len(rows))
            x = sums[used] / np.bincount(row[of_lane], weights, len(rows))[used]
            lines.append(stored_points(np.stack([x, rows[used]], 1), scale))
            scores.append(float(weights.mean()))
        sample.pred_lanes = Lanes(tuple(lines), np.full(len(lines), -1, np.int64), np.array(scores, np.float64))
