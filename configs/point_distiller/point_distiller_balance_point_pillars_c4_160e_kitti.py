"""Compared with PointDistiller on PointPillars c4: class logits by forward and reverse KL divergence.

The softmax is over the anchors and classes of a cell, 6 x 3 logits. The head itself is trained with sigmoid scores, so
this transfers which anchor and class of a cell is the most likely one, not how likely an object is there.
"""

from mmengine.config import read_base

from perception3d.distill.losses.balance import BalanceDivergence

with read_base():
    from .point_distiller_point_pillars_c4_160e_kitti import *

model.links = dict(
    logits=dict(student='bbox_head.conv_cls', teacher='bbox_head.conv_cls', loss=dict(type=BalanceDivergence, tau=2.0)),
)
