"""LiDAR-only data of your own (data/README.md): clouds and boxes. `tools/create_data.py custom-boxes --root DIR` first.

The classes, the floats of a point, the range, the pasted objects and the overlaps of the evaluation are those of a
first try: set them in the leaf above `with read_base()`, and the steps, the data sets and the metric have them. A LiDAR
that sees all around is assumed, so that frames are mirrored along both axes.
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

# How many objects of each class a frame is filled up to, and the points that one of the database has at least.
sample_groups = dict.fromkeys(class_names, 15)
min_points = dict.fromkeys(class_names, 5)
# Overlap from which on a detection counts as right, for all classes or by class.
score_overlaps = 0.5

db_sampler = dict(
    data_root=data_root,
    classes=class_names,
    load_dim=num_features,
    use_dim=num_features,
    sample_groups=sample_groups,
    min_points=min_points,
)
train_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=num_features, use_dim=num_features),
    boxes=dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    paste=dict(type=PasteObjects, db_sampler=db_sampler),
    move=dict(type=MoveObjects),
    mirror=dict(type=RandomFlip3D, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    rotate=dict(type=GlobalRotScaleTrans, rot_range=[-0.78539816, 0.78539816], scale_ratio_range=[0.95, 1.05]),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    boxes_in_range=dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    shuffle=dict(type=PointShuffle),
    pack=dict(type=Pack3DDetInputs, keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=POINT_META_KEYS),
)
test_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=num_features, use_dim=num_features),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    pack=dict(type=Pack3DDetInputs, keys=['points'], meta_keys=POINT_META_KEYS),
)

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
            pipeline=train_steps,
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
        pipeline=test_steps,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=LidarDetectionMetric, iou_thresholds=score_overlaps)
test_evaluator = val_evaluator

tta_model = dict(type=LidarTTAModel, iou_thr=0.2)
tta_pipeline = dict(
    load=test_steps['load'],
    views=dict(
        type=TestTimeAug,
        transforms=dict(
            mirrored=mirrored_views,
            points_in_range=[test_steps['points_in_range']],
            pack=[test_steps['pack']],
        ),
    ),
)
# A leaf changes the steps of a data loader, not these.
del train_steps, test_steps
