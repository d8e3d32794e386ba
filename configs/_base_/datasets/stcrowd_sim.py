"""The built-in world in STCrowd's layout, in batches for a CPU.

Make it first: `python tools/simulate.py stcrowd --out data/stcrowd_sim --profile crowds` and
`python tools/create_data.py stcrowd --root data/stcrowd_sim`.
"""

from mmengine.config import read_base

data_root = 'data/stcrowd_sim'

with read_base():
    from .stcrowd import *

train_dataloader.update(batch_size=2, num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = val_dataloader
