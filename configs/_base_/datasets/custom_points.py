"""Labelled clouds of your own (data/README.md). `tools/create_data.py custom-points --root DIR` first.

Steps, batches and augmentation are those of SemanticKITTI. The classes and the floats of a point are those of a first
try: set them in the leaf above `with read_base()`, and the steps, the data sets and the network have them.
"""

from mmengine.config import read_base

from perception3d.formats.custom_points.dataset import CustomPointsDataset
from perception3d.formats.custom_points.evaluation.metric import CustomPointsMetric

data_root = 'data/custom_points'
class_names = ['road', 'car']
num_features = 4

with read_base():
    from .semantickitti import *

for loader in (train_dataloader, val_dataloader):
    loader.dataset.type = CustomPointsDataset
    loader.dataset.pipeline.load.update(load_dim=num_features, use_dim=num_features)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file=test_ann_file))
tta_pipeline.load.update(load_dim=num_features, use_dim=num_features)

val_evaluator.type = CustomPointsMetric
test_evaluator = val_evaluator
del loader
