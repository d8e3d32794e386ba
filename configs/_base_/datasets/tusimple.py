"""TuSimple, 1280 x 720 pixels, up to six lanes: 3,268 images of training, 358 of validation, 2,782 of the test.

`tools/create_data.py tusimple` first. Whole images of 640 x 368, as the released models are tested; that they are
trained on parts of larger images and turned by 1.7 degrees is left out. Scales are those of CULane's training.
"""

from mmengine.config import read_base

from perception3d.formats.tusimple.dataset import TuSimpleDataset
from perception3d.formats.tusimple.evaluation.metric import TuSimpleMetric

data_root = 'data/tusimple'
crop_top_px = 0
input_hw = [368, 640]
rotate_deg = 0.5

with read_base():
    from .culane import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.dataset.type = TuSimpleDataset
del loader

val_evaluator = dict(type=TuSimpleMetric)
test_evaluator = val_evaluator
