"""nuScenes for LiDAR detectors: the sweep of a keyframe and nine before it. `tools/create_data.py nuscenes` first."""

from mmcv.transforms import TestTimeAug
from mmdet3d.datasets.transforms import (
    GlobalRotScaleTrans,
    LoadAnnotations3D,
    ObjectNameFilter,
    ObjectRangeFilter,
    Pack3DDetInputs,
    PointShuffle,
    PointsRangeFilter,
    RandomFlip3D,
)
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler

from perception3d.datasets.balanced import SeededCBGSDataset
from perception3d.datasets.transforms.lidar_loading import LoadAlignedSweeps, LoadCheckedPoints, ZeroUnknownVelocities
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.nuscenes.dataset import LIDAR_META_KEYS, MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.evaluation.metric import NuScenesDetectionMetric
from perception3d.models.lidar_det.tta import LidarTTAModel

with read_base():
    from .mirrored_views import *

data_root = 'data/nuscenes'
class_names = [
    'car', 'truck', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle', 'bicycle', 'pedestrian',
    'traffic_cone',
]  # fmt: skip
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
# Earlier sweeps, and what is kept of a point: x, y, z, intensity, age.
sweeps_num = 9
use_dim = [0, 1, 2, 3, 4]
# A frame without earlier sweeps has its own again, without the points of the ego vehicle.
fill_sweeps = True

train_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=5, use_dim=5),
    sweeps=dict(
        type=LoadAlignedSweeps,
        sweeps_num=sweeps_num,
        use_dim=use_dim,
        pad_empty_sweeps=fill_sweeps,
        remove_close=fill_sweeps,
    ),
    boxes=dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    rotate=dict(type=GlobalRotScaleTrans, rot_range=[-0.3925, 0.3925], scale_ratio_range=[0.95, 1.05]),
    mirror=dict(type=RandomFlip3D, sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    boxes_in_range=dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    names=dict(type=ObjectNameFilter, classes=class_names),
    shuffle=dict(type=PointShuffle),
    velocities=dict(type=ZeroUnknownVelocities),
    pack=dict(type=Pack3DDetInputs, keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
)
test_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=5, use_dim=5),
    sweeps=dict(
        type=LoadAlignedSweeps,
        sweeps_num=sweeps_num,
        use_dim=use_dim,
        pad_empty_sweeps=fill_sweeps,
        remove_close=fill_sweeps,
        test_mode=True,
    ),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    pack=dict(type=Pack3DDetInputs, keys=['points'], meta_keys=LIDAR_META_KEYS),
)

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SeededCBGSDataset,
        dataset=dict(
            type=MultiFrameNuScenesDataset,
            data_root=data_root,
            ann_file='perception3d_infos_train.pkl',
            num_frames=1,
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
        type=MultiFrameNuScenesDataset,
        data_root=data_root,
        ann_file='perception3d_infos_val.pkl',
        num_frames=1,
        pipeline=test_steps,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=NuScenesDetectionMetric, data_root=data_root, sensors=('lidar',))
test_evaluator = val_evaluator

# nuScenes takes 500 boxes.
tta_model = dict(type=LidarTTAModel, iou_thr=0.2, max_num=500)
tta_pipeline = dict(
    load=test_steps['load'],
    sweeps=test_steps['sweeps'],
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
