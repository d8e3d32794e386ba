"""LLAMAS, 1276 x 717 pixels, four lanes: 58,269 images of training, 20,844 of validation, 20,929 of the test.

`tools/create_data.py llamas` first. Whole images of 960 x 288, as in ENet-SAD-Simple; masks are drawn from the lanes
when an image is loaded, or lie on disk where `--marker-masks` wrote them. Tests are on `valid`, since labels of the
test split are not public.
"""

from mmengine.config import read_base

from perception3d.formats.llamas.dataset import LlamasDataset
from perception3d.formats.llamas.evaluation.metric import LlamasMetric

data_root = 'data/llamas'
val_ann_file = 'perception3d_infos_valid.pkl'
test_ann_file = 'perception3d_infos_valid.pkl'
crop_top_px = 0
input_hw = [288, 960]
# Widths of 920 to 1002 of 960 pixels, heights of 274 to 304 of 288.
scale_x, scale_y = [0.958, 1.044], [0.951, 1.056]

with read_base():
    from .culane import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.dataset.type = LlamasDataset
del loader
val_evaluator = dict(type=LlamasMetric)
test_evaluator = val_evaluator
