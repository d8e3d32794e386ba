"""STCrowd for detectors of cloud and camera: a point has its pixel in the left image, and whether it is seen.

A fifth of the samples of a training have no image, so that one model serves both. Images are of half the stored size.
"""

from mmengine.config import read_base

from perception3d.datasets.transforms.point_painting import AddImagePixels

image_hw = [360, 640]
# Share of the samples of a training without their image [P].
image_drop = 0.2

with read_base():
    from .stcrowd import *

for loader, drop in ((train_dataloader, image_drop), (val_dataloader, 0.0)):
    steps = loader.dataset.pipeline
    steps.pack['keys'] = ['img', *steps.pack['keys']]
    first = {name: steps.pop(name) for name in ('load', 'sector')}
    loader.dataset.pipeline = dict(**first, pixels=dict(type=AddImagePixels, final_hw=image_hw, drop=drop), **steps)
test_dataloader = val_dataloader
del loader, drop, steps, first
