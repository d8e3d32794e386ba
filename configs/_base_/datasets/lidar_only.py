"""LiDAR data of your own (data/README.md): clouds and boxes. `tools/create_data.py custom-boxes --root DIR` first.

The classes, the floats a point, the range and the database's numbers are those of a first try: set them in the leaf
config for the data at hand. A scanner that sees all around is assumed, so that frames are mirrored along both axes.
Another range goes to every step that has one; their numbers differ from config to config:

    train_steps, test_steps = train_dataloader.dataset.dataset.pipeline, val_dataloader.dataset.pipeline
    for steps in (train_steps, test_steps, tta_pipeline[1].transforms[1]):
        for step in steps:
            if 'point_cloud_range' in step:
                step.point_cloud_range = point_cloud_range
    test_dataloader = val_dataloader
    del train_steps, test_steps, steps, step

The same range goes to the model, which compares its parts with it when it is built.
"""

from mmcv.transforms import TestTimeAug
from mmdet3d.datasets.transforms import (
    GlobalRotScaleTrans,
    LoadAnnotations3D,
    ObjectRangeFilter,
    Pack3DDetInputs,
    PointShuffle,
    PointsRangeFilter,
    RandomFlip3D,
)
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler, RepeatDataset

from perception3d.datasets.transforms.lidar_augment import MoveObjects, PasteObjects
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.custom_boxes.dataset import POINT_META_KEYS, PointBoxDataset
from perception3d.formats.custom_boxes.evaluation.metric import LidarDetectionMetric
from perception3d.models.lidar_det.tta import LidarTTAModel

with read_base():
    from .mirrored_views import *

data_root = 'data/lidar'
class_names = ['Pedestrian', 'Cyclist', 'Car']
num_features = 4
point_cloud_range = [-51.2, -51.2, -5, 51.2, 51.2, 3]
metainfo = dict(classes=class_names)

db_sampler = dict(
    data_root=data_root,
    classes=class_names,
    load_dim=num_features,
    use_dim=num_features,
    sample_groups=dict(Car=15, Pedestrian=15, Cyclist=15),
    min_points=dict(Car=5, Pedestrian=5, Cyclist=5),
)
train_pipeline = [
    dict(type=LoadCheckedPoints, load_dim=num_features, use_dim=num_features),
    dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    dict(type=PasteObjects, db_sampler=db_sampler),
    dict(type=MoveObjects),
    dict(type=RandomFlip3D, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(type=GlobalRotScaleTrans, rot_range=[-0.78539816, 0.78539816], scale_ratio_range=[0.95, 1.05]),
    dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    dict(type=PointShuffle),
    dict(type=Pack3DDetInputs, keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=POINT_META_KEYS),
]
test_pipeline = [
    dict(type=LoadCheckedPoints, load_dim=num_features, use_dim=num_features),
    dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    dict(type=Pack3DDetInputs, keys=['points'], meta_keys=POINT_META_KEYS),
]

train_dataloader = dict(
    batch_size=6,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=RepeatDataset,
        times=2,
        dataset=dict(
            type=PointBoxDataset,
            data_root=data_root,
            ann_file='perception3d_infos_train.pkl',
            metainfo=metainfo,
            pipeline=train_pipeline,
            test_mode=False,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=PointBoxDataset,
        data_root=data_root,
        ann_file='perception3d_infos_val.pkl',
        metainfo=metainfo,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=LidarDetectionMetric, iou_thresholds=0.5)
test_evaluator = val_evaluator

tta_model = dict(type=LidarTTAModel, iou_thr=0.2)
tta_pipeline = [
    test_pipeline[0],
    dict(
        type=TestTimeAug,
        transforms=[
            mirrored_views,
            [test_pipeline[1]],
            [test_pipeline[2]],
        ],
    ),
]
