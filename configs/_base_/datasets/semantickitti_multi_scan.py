"""SemanticKITTI, 25 classes, each scan with the two before it; scored are the points of the current scan.

Classes of moving objects are apart, so that a flip or a rotation is of all scans at once. `tools/create_data.py
semantickitti --multi-scan` first.
"""

from mmengine.config import read_base

from perception3d.formats.semantickitti.scans import LoadEarlierScans

class_names = [
    'car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist', 'road',
    'parking', 'sidewalk', 'other-ground', 'building', 'fence', 'vegetation', 'trunk', 'terrain', 'pole',
    'traffic-sign', 'moving-car', 'moving-bicyclist', 'moving-person', 'moving-motorcyclist',
    'moving-other-vehicle', 'moving-truck',
]  # fmt: skip

with read_base():
    from .semantickitti import *

earlier_scans = 2
earlier = dict(type=LoadEarlierScans)
for loader in (train_dataloader, val_dataloader):
    loader.dataset.earlier_scans = earlier_scans
    steps = loader.dataset.pipeline
    # Behind the labels, and before what moves points.
    rest = {name: steps.pop(name) for name in list(steps) if name not in ('load', 'labels')}
    steps.update(earlier=earlier, **rest)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file=test_ann_file))
rest = dict(views=tta_pipeline.pop('views'))
tta_pipeline.update(earlier=earlier, **rest)
del loader, steps, rest
