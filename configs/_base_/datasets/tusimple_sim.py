"""The built-in world in TuSimple's format, at half the input size of TuSimple, in batches for a CPU.

Make it first: `python tools/simulate.py tusimple --out data/tusimple_sim --profile lanes` and
`python tools/create_data.py tusimple --root data/tusimple_sim`.
"""

from mmengine.config import read_base

data_root = 'data/tusimple_sim'
crop_top_px = 0
input_hw = [184, 320]
batch_size = 8

with read_base():
    from .tusimple import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(num_workers=1)
del loader
