"""The models of the package, one folder a system.

What is registered is a name of this package, imported when it is asked for:

>>> from perception3d.models import FastBEV, LaneSegmentor
>>> FastBEV.__module__
'perception3d.models.fast_bev.detector'
>>> from perception3d import models
>>> [name for name in dir(models) if name.endswith('Partition')]
['CubePartition', 'CylinderPartition', 'RangePartition']
"""

from __future__ import annotations

from perception3d.public_names import registered_names

__getattr__, __dir__ = registered_names(__name__)
