"""MinkUNet18 on SemanticKITTI with LaserMix or PolarMix on every scan, three times as long; 36 views with `--tta`.

mmdet3d trains its MinkUNet34 so.
"""

from mmcv.transforms import RandomChoice
from mmengine.config import read_base

from perception3d.datasets.transforms.point_mix import LaserMixScans, PolarMixScans

max_epochs, val_interval = 45, 3

with read_base():
    from .mink_unet_w100_5cm_15e_semantickitti import *

# Classes of which PolarMix pastes copies.
things = ['car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist']
steps = train_dataloader.dataset.pipeline
scan = [steps.load, steps.labels]
mix = dict(
    type=RandomChoice,
    transforms=[
        [dict(type=LaserMixScans, pre_transform=scan)],
        [dict(type=PolarMixScans, pre_transform=scan, classes=things)],
    ],
    prob=[0.5, 0.5],
)
# Behind the labels, and before what moves points.
rest = {name: steps.pop(name) for name in list(steps) if name not in ('load', 'labels')}
steps.update(mix=mix, **rest)
del steps, scan, rest, mix, things

tta_pipeline.views.num_views = 36
