"""The built-in world in CULane's format, at half the size of `culane_crop`, in batches for a CPU.

Make it first: `python tools/simulate.py culane --out data/culane_sim --profile lanes` and
`python tools/create_data.py culane --root data/culane_sim`. Of whole images, set `crop_top_px` to 0 and `input_hw` to
[144, 400] before the import of this base.
"""

from mmengine.config import read_base

data_root = 'data/culane_sim'
crop_top_px = 240
input_hw = [104, 488]
batch_size = 8

with read_base():
    from .culane import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(num_workers=1)
del loader
