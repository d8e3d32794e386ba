"""SPVCNN on SemanticKITTI with objects of rare classes from other scans on every scan (instance augmentation)."""

from mmengine.config import read_base

from perception3d.datasets.transforms.point_mix import PasteInstances

with read_base():
    from .spvcnn_w100_5cm_15e_semantickitti import *

steps = train_dataloader.dataset.pipeline
paste = dict(
    type=PasteInstances,
    pre_transform=[steps.load, steps.labels],
    # Things with less than 1 % of all points.
    classes=['bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist'],
    ground=['road', 'parking', 'sidewalk', 'other-ground', 'terrain'],
)
# Behind the labels, and before what moves points.
rest = {name: steps.pop(name) for name in list(steps) if name not in ('load', 'labels')}
steps.update(paste=paste, **rest)
del steps, rest, paste
