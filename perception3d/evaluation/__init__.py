"""What the metrics of several formats share; `perception3d.formats` has the metrics themselves.

The base classes for metrics of your own, and scores of arrays, are names of this package:

>>> import numpy as np
>>> from perception3d.evaluation import count_confusion, kitti_iou
>>> confusion = count_confusion(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 3)
>>> kitti_iou(confusion).iou.round(3).tolist()
[1.0, 0.5, 0.5]
"""

from __future__ import annotations

from perception3d.public_names import registered_names

__getattr__, __dir__ = registered_names(
    __name__,
    'crowd_frames',
    'crowd_options',
    'crowd_scores',
    'lane_f1',
    'lane_metric',
    'panoptic',
    'point_iou',
    'point_metric',
    'submissions',
    'tracking',
)
