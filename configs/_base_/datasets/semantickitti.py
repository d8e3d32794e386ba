"""SemanticKITTI, 19 classes, single scans: 19,130 and 4,071. `tools/create_data.py semantickitti` first.

Augmentation of the released PVD code: a rotation within 45 degrees, each flip with probability 1/4, scaling by 0.95 to
1.05 (there in x and y alone), a shift with a standard deviation of 0.1 m along each axis.
"""

import math

from mmdet3d.datasets.transforms import GlobalRotScaleTrans, Pack3DDetInputs, RandomFlip3D
from mmengine.dataset import DefaultSampler

from perception3d.datasets.point_label_dataset import POINT_META_KEYS
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.datasets.transforms.point_views import PointViews
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.semantickitti.dataset import SemanticKittiDataset
from perception3d.formats.semantickitti.evaluation.metric import SemanticKittiMetric
from perception3d.models.lidar_seg.tta import PointSegTTAModel

data_root = 'data/semantickitti'
class_names = [
    'car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist', 'road',
    'parking', 'sidewalk', 'other-ground', 'building', 'fence', 'vegetation', 'trunk', 'terrain', 'pole',
    'traffic-sign',
]  # fmt: skip
train_ann_file = 'perception3d_infos_train.pkl'
val_ann_file = 'perception3d_infos_val.pkl'
# What tools/test.py runs on; perception3d_infos_test.pkl has the scans of the benchmark, which have no labels.
test_ann_file = 'perception3d_infos_val.pkl'
# Largest rotation about z, either way.
rotation_deg = 45
# What a sample of the network holds.
packed_keys = ['points', 'pts_semantic_mask', 'pts_instance_mask']
metainfo = dict(classes=class_names)

train_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=4, use_dim=4),
    labels=dict(type=LoadPointLabels),
    mirror=dict(type=RandomFlip3D, sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    rotate=dict(
        type=GlobalRotScaleTrans,
        rot_range=[-math.radians(rotation_deg), math.radians(rotation_deg)],
        scale_ratio_range=[0.95, 1.05],
        translation_std=[0.1, 0.1, 0.1],
    ),
    pack=dict(type=Pack3DDetInputs, keys=packed_keys, meta_keys=POINT_META_KEYS),
)
test_steps = dict(
    load=train_steps['load'],
    labels=train_steps['labels'],
    pack=train_steps['pack'],
)

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SemanticKittiDataset,
        data_root=data_root,
        ann_file=train_ann_file,
        metainfo=metainfo,
        pipeline=train_steps,
        test_mode=False,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=SemanticKittiDataset,
        data_root=data_root,
        ann_file=val_ann_file,
        metainfo=metainfo,
        pipeline=test_steps,
        test_mode=True,
    ),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file=test_ann_file))

val_evaluator = dict(type=SemanticKittiMetric)
test_evaluator = val_evaluator

# tools/test.py --tta: 12 of mmdet3d's 36 views.
tta_model = dict(type=PointSegTTAModel)
tta_pipeline = dict(
    load=test_steps['load'],
    labels=test_steps['labels'],
    views=dict(type=PointViews, num_views=12, pack=[test_steps['pack']]),
)
# A leaf changes the steps of a data loader, not these.
del train_steps, test_steps
