"""PointPillars (Lang et al. 2019, arXiv 1812.05784) for people, on STCrowd's range and pillars of 0.12 x 0.16 m.

Anchors have the mean box of STCrowd, 0.57 x 0.60 m (answers of its authors), on every cell of 0.24 x 0.32 m; height and
overlaps are our choice. Boxes have velocities. People with the label -1 are background for this head.
"""

from mmengine.config import read_base

point_cloud_range = [0, -20.48, -4, 30.72, 20.48, 2]
voxel_size = [0.12, 0.16, 6]
class_names = ['person']
anchor_sizes = dict(person=[0.57, 0.60, 1.7])
anchor_bottoms_m = dict(person=-1.7)
anchor_overlaps = dict(person=(0.5, 0.35))

with read_base():
    from .point_pillars_secfpn import *

model.bbox_head.anchor_generator.custom_values = [0, 0]
model.bbox_head.bbox_coder.code_size = 9
model.train_cfg.code_weight = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2]
model.test_cfg.update(nms_thr=0.2, score_thr=0.02, nms_pre=1000, max_num=200)
