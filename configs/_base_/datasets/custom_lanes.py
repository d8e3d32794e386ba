"""Lanes of your own images (data/README.md). `tools/create_data.py custom-lanes --root DIR` first.

Sizes, steps and batches are those of a first try: set them in the leaf above `with read_base()`. Masks are drawn from
the polylines, `lane_width_px` pixels of the stored image wide: about a hundredth of its width. The number of slots is
that of the info file: set `class_names` of the leaf to as many names, left to right.
"""

from mmengine.config import read_base

from perception3d.formats.custom_lanes.dataset import CustomLanesDataset
from perception3d.formats.custom_lanes.evaluation.metric import CustomLanesMetric

data_root = 'data/custom_lanes'
crop_top_px = 0
input_hw = [288, 800]
test_ann_file = 'perception3d_infos_val.pkl'

with read_base():
    from .culane import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.dataset.type = CustomLanesDataset
del loader

val_evaluator = dict(type=CustomLanesMetric)
test_evaluator = val_evaluator
