"""Compared with PointDistiller on PointPillars c4: similarity-preserving distillation on the BEV map."""

from mmengine.config import read_base

from perception3d.distill.losses.similarity import SimilarityPreserving

with read_base():
    from .point_distiller_point_pillars_c4_160e_kitti import *

model.links = dict(similarity=dict(student='neck[0]', teacher='neck[0]', loss=dict(type=SimilarityPreserving)))
