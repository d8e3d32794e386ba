"""Data sets and transforms that mmdet3d lacks; what is registered is a name of this package.

>>> from perception3d.datasets import KeepFrames, LoadPointLabels
>>> LoadPointLabels.__module__
'perception3d.datasets.transforms.point_labels'
"""

from __future__ import annotations

from perception3d.public_names import registered_names

__getattr__, __dir__ = registered_names(__name__, 'box_dataset', 'frame_dataset', 'point_label_dataset')
