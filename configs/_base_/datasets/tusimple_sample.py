"""A few real images of TuSimple again and again, as the test sees them: `num_iters` iterations of all of them.

Copy `clips/` and `label_data_sample.json` into data/sample_tusimple and run
`python tools/create_data.py tusimple --root data/sample_tusimple`.
"""

from mmengine.config import read_base
from mmengine.dataset import RepeatDataset

data_root = 'data/sample_tusimple'
val_ann_file = test_ann_file = 'perception3d_infos_train.pkl'
batch_size = 4
num_iters = 200

with read_base():
    from .tusimple import *

images = train_dataloader.dataset
del images.pipeline['augment']
# The sampler shuffles: of four images, a batch has any four.
train_dataloader.dataset = dict(type=RepeatDataset, dataset=images, times=num_iters)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(num_workers=1)
del images, loader
