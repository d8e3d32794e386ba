"""Earlier sweeps of a labelled keyframe: more points for a model, none of which is scored."""

from __future__ import annotations

from typing import Any

import numpy as np

from perception3d.datasets.transforms.lidar_loading import LoadAlignedSweeps
from perception3d.registry import TRANSFORMS
from perception3d.structures.point_labels import IGNORE


@TRANSFORMS.register_module()
class LoadUnlabelledSweeps(LoadAlignedSweeps):
    """Adds earlier sweeps, in the LiDAR frame of the keyframe, behind its points; nuScenes labels keyframes alone.

    It stands behind `LoadPointLabels`. Column 4 of all points, the ring, becomes their age in seconds. The labels of
    the new points are IGNORE, and their objects 0; `num_scored_points`, which belongs among the meta keys, says how
    many points are of the keyframe. Arguments are those of `LoadAlignedSweeps`; the benchmark allows ten sweeps.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds to `points` and the labels."""
        results['num_scored_points'] = len(results['points'])
        results = super().transform(results)
        more = len(results['points']) - results['num_scored_points']
        for labels in (results, results.get('eval_ann_info') or {}):
            for key, value in (('pts_semantic_mask', IGNORE), ('pts_instance_mask', 0)):
                if key in labels:
                    labels[key] = np.append(labels[key], np.full(more, value, np.int64))
        return results
