"""PointPillars for people on STCrowd: anchors on 128 x 128 cells."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.stcrowd import *
    from .._base_.models.point_pillars_crowd import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_crowd import *
