"""nuScenes-lidarseg, 16 classes, keyframes. `tools/create_data.py nuscenes-lidarseg` first.

Steps and batches are those of SemanticKITTI, with any rotation, as in the released PVD code. Intensities stay 0 to 255,
as there: the network normalises its inputs.
"""

from mmengine.config import read_base

from perception3d.formats.nuscenes_lidarseg.dataset import NuScenesLidarsegDataset
from perception3d.formats.nuscenes_lidarseg.evaluation.metric import NuScenesLidarsegMetric

data_root = 'data/nuscenes'
class_names = [
    'barrier', 'bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle', 'pedestrian', 'traffic_cone',
    'trailer', 'truck', 'driveable_surface', 'other_flat', 'sidewalk', 'terrain', 'manmade', 'vegetation',
]  # fmt: skip
train_ann_file = 'perception3d_infos_lidarseg_train.pkl'
val_ann_file = 'perception3d_infos_lidarseg_val.pkl'
test_ann_file = 'perception3d_infos_lidarseg_val.pkl'
rotation_deg = 180
# Objects are stored apart from classes, and are not read.
packed_keys = ['points', 'pts_semantic_mask']

with read_base():
    from .semantickitti import *

for loader in (train_dataloader, val_dataloader):
    loader.dataset.type = NuScenesLidarsegDataset
    loader.dataset.pipeline.load.load_dim = 5
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file=test_ann_file))
tta_pipeline.load.load_dim = 5

val_evaluator.type = NuScenesLidarsegMetric
test_evaluator = val_evaluator
del loader
