"""JRDB for detectors of people around a robot. `tools/create_data.py jrdb` first.

The benchmark scores people up to 25 m. Range, heights and augmentation are ours: the robot sees all around, so frames
are mirrored along both axes and turned freely.
"""

import math

from mmdet3d.datasets.transforms import (
    GlobalRotScaleTrans,
    LoadAnnotations3D,
    ObjectRangeFilter,
    Pack3DDetInputs,
    PointShuffle,
    PointsRangeFilter,
    RandomFlip3D,
)
from mmengine.dataset import DefaultSampler

from perception3d.datasets.transforms.crowd import AddIgnoredBoxes
from perception3d.datasets.transforms.lidar_loading import ZeroUnknownVelocities
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.jrdb.clouds import LoadRobotPoints
from perception3d.formats.jrdb.dataset import ROBOT_META_KEYS, JrdbDataset
from perception3d.formats.jrdb.evaluation.metric import JrdbMetric

data_root = 'data/jrdb'
class_names = ['person']
point_cloud_range = [-25.6, -25.6, -2.0, 25.6, 25.6, 2.0]
metainfo = dict(classes=class_names)

train_steps = dict(
    load=dict(type=LoadRobotPoints),
    boxes=dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    ignored=dict(type=AddIgnoredBoxes),
    mirror=dict(type=RandomFlip3D, sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    rotate=dict(type=GlobalRotScaleTrans, rot_range=[-math.pi, math.pi], scale_ratio_range=[0.95, 1.05]),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    boxes_in_range=dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    shuffle=dict(type=PointShuffle),
    # For heads of mmdet3d, which cannot take NaN.
    velocities=dict(type=ZeroUnknownVelocities),
    pack=dict(type=Pack3DDetInputs, keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=ROBOT_META_KEYS),
)
test_steps = dict(
    load=dict(type=LoadRobotPoints),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    pack=dict(type=Pack3DDetInputs, keys=['points'], meta_keys=ROBOT_META_KEYS),
)

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=JrdbDataset,
        data_root=data_root,
        ann_file='perception3d_infos_train.pkl',
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
        type=JrdbDataset,
        data_root=data_root,
        ann_file='perception3d_infos_val.pkl',
        metainfo=metainfo,
        pipeline=test_steps,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=JrdbMetric)
test_evaluator = val_evaluator
# A leaf changes the steps of a data loader, not these.
del train_steps, test_steps
