"""BDD100K's lanes as one class of pixels, 1280 x 720: training on `train`, validation and test on `val`.

`tools/create_data.py bdd100k-lane` first. Whole images of 640 x 360, as in the paper on SAD, whose release trains on
padded images and tests on larger ones. The paper tests on the official `val` too; it validates on 10,000 images of
`train`, whose list is not public.
"""

from mmengine.config import read_base

from perception3d.formats.bdd100k_lane.dataset import Bdd100kLaneDataset
from perception3d.formats.bdd100k_lane.evaluation.metric import Bdd100kLaneMetric

data_root = 'data/bdd100k'
val_ann_file = test_ann_file = 'perception3d_infos_val.pkl'
crop_top_px = 0
input_hw = [360, 640]

with read_base():
    from .culane import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.dataset.type = Bdd100kLaneDataset
del loader

val_evaluator = dict(type=Bdd100kLaneMetric)
test_evaluator = val_evaluator
