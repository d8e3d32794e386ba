"""KITTI for LiDAR detectors of three classes; 3,712 and 3,769 frames. `tools/create_data.py kitti` first.

Augmentation as mmdet3d's KITTI configs: 15 objects of each class with 5 points or more, as PointPillars has it (SECOND:
Car 12 with 5 points, Pedestrian and Cyclist 6 with 10), every object moved on its own (SECOND has it, PointPillars of
three classes has not), flip, rotation and scaling of the frame. Another range, data folder, number of pasted objects,
...: set `point_cloud_range`, `data_root`, `sample_groups`, ... above `with read_base()`; docs/configs.md shows how.
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
from mmengine.dataset import DefaultSampler, RepeatDataset

from perception3d.datasets.transforms.lidar_augment import MoveObjects, PasteObjects
from perception3d.datasets.transforms.lidar_loading import CropToImage, LoadCheckedPoints
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.kitti.dataset import FRAME_META_KEYS, KittiFrameDataset
from perception3d.formats.kitti.evaluation.metric import KittiFrameMetric
from perception3d.models.lidar_det.tta import LidarTTAModel

data_root = 'data/kitti'
class_names = ['Pedestrian', 'Cyclist', 'Car']
point_cloud_range = [0, -39.68, -3, 69.12, 39.68, 1]
metainfo = dict(classes=class_names)

# How many objects of each class a frame is filled up to, and the points that one of the database has at least.
sample_groups = dict(Car=15, Pedestrian=15, Cyclist=15)
min_points = dict(Car=5, Pedestrian=5, Cyclist=5)
db_sampler = dict(data_root=data_root, classes=class_names, sample_groups=sample_groups, min_points=min_points)
train_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=4, use_dim=4),
    crop=dict(type=CropToImage),
    boxes=dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    paste=dict(type=PasteObjects, db_sampler=db_sampler),
    move=dict(type=MoveObjects),
    mirror=dict(type=RandomFlip3D, flip_ratio_bev_horizontal=0.5),
    rotate=dict(type=GlobalRotScaleTrans, rot_range=[-0.78539816, 0.78539816], scale_ratio_range=[0.95, 1.05]),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    boxes_in_range=dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    shuffle=dict(type=PointShuffle),
    pack=dict(type=Pack3DDetInputs, keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=FRAME_META_KEYS),
)
test_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=4, use_dim=4),
    crop=dict(type=CropToImage),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    pack=dict(type=Pack3DDetInputs, keys=['points'], meta_keys=FRAME_META_KEYS),
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
            type=KittiFrameDataset,
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
        type=KittiFrameDataset,
        data_root=data_root,
        ann_file='perception3d_infos_val.pkl',
        metainfo=metainfo,
        pipeline=test_steps,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=KittiFrameMetric, data_root=data_root)
test_evaluator = val_evaluator

# tools/test.py --tta: every frame also mirrored, and both a little smaller and larger.
tta_model = dict(type=LidarTTAModel, iou_thr=0.2)
tta_pipeline = dict(
    load=test_steps['load'],
    crop=test_steps['crop'],
    views=dict(
        type=TestTimeAug,
        transforms=dict(
            mirrored=[
                dict(type=RandomFlip3D, sync_2d=False, flip_ratio_bev_horizontal=float(flip)) for flip in (False, True)
            ],
            scaled=[
                dict(type=GlobalRotScaleTrans, rot_range=[0, 0], scale_ratio_range=[s, s]) for s in (0.97, 1.0, 1.03)
            ],
            points_in_range=[test_steps['points_in_range']],
            pack=[test_steps['pack']],
        ),
    ),
)
# A leaf changes the steps of a data loader, not these.
del train_steps, test_steps
