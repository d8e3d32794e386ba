"""Images of the built-in world with the depth and class of every pixel, which it writes next to CULane's own files.

Augmentation is off: a scaled or rotated image has pixels at its border that show nothing.
"""

from mmengine.config import read_base

from perception3d.datasets.transforms.lane_pixels import LoadPixelTargets

with read_base():
    from .culane_sim import *

del train_dataloader.dataset.pipeline['augment']
for loader in (train_dataloader, val_dataloader, test_dataloader):
    steps = loader.dataset.pipeline
    steps.load.with_mask = False
    steps.update(pixels=dict(type=LoadPixelTargets), pack=steps.pop('pack'))
del loader, steps
