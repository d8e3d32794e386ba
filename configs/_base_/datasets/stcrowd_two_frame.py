"""STCrowd for detectors of two frames: a cloud has the points of the frame before as well, with their age."""

from mmengine.config import read_base

from perception3d.datasets.transforms.lidar_loading import LoadPreviousCloud

with read_base():
    from .stcrowd import *

for loader in (train_dataloader, val_dataloader):
    steps = loader.dataset.pipeline
    first = dict(load=steps.pop('load'), previous=dict(type=LoadPreviousCloud, load_dim=4, use_dim=4))
    loader.dataset.pipeline = dict(**first, **steps)
test_dataloader = val_dataloader
del loader, steps, first
