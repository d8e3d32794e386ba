"""STCrowd for detectors of people in clouds. `tools/create_data.py stcrowd` first.

Range and grid are those that the authors gave for their model: x 0 to 30.72 m, y -20.48 to 20.48 m. The heights are our
first choice: `create_data` prints those of the boxes. The augmentation is ours too: the data are labelled ahead of
the LiDAR alone, so that frames are mirrored to the other side of the x axis, and turned little, after everything
outside the labelled sector was cut off. Nothing is pasted: single people
would thin out the groups; `GroupSampler` pastes groups.
"""

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

from perception3d.datasets.transforms.crowd import AddIgnoredBoxes, CropToSector
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints, ZeroUnknownVelocities
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.stcrowd.dataset import CROWD_META_KEYS, STCrowdDataset
from perception3d.formats.stcrowd.evaluation.metric import STCrowdMetric
from perception3d.models.crowd.tracker import CenterTracker

data_root = 'data/stcrowd'
class_names = ['person']
point_cloud_range = [0, -20.48, -4, 30.72, 20.48, 2]
metainfo = dict(classes=class_names)

train_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=4, use_dim=4),
    sector=dict(type=CropToSector),
    boxes=dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    ignored=dict(type=AddIgnoredBoxes),
    mirror=dict(type=RandomFlip3D, sync_2d=False, flip_ratio_bev_horizontal=0.5),
    rotate=dict(
        type=GlobalRotScaleTrans,
        rot_range=[-0.39269908, 0.39269908],
        scale_ratio_range=[0.95, 1.05],
        translation_std=[0.2, 0.2, 0.2],
    ),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    boxes_in_range=dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    shuffle=dict(type=PointShuffle),
    # For heads of mmdet3d, which cannot take NaN.
    velocities=dict(type=ZeroUnknownVelocities),
    pack=dict(type=Pack3DDetInputs, keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=CROWD_META_KEYS),
)
test_steps = dict(
    load=dict(type=LoadCheckedPoints, load_dim=4, use_dim=4),
    sector=dict(type=CropToSector),
    points_in_range=dict(type=PointsRangeFilter, point_cloud_range=point_cloud_range),
    pack=dict(type=Pack3DDetInputs, keys=['points'], meta_keys=CROWD_META_KEYS),
)

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=STCrowdDataset,
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
        type=STCrowdDataset,
        data_root=data_root,
        ann_file='perception3d_infos_val.pkl',
        metainfo=metainfo,
        pipeline=test_steps,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=STCrowdMetric)
test_evaluator = val_evaluator
# Tests and inference follow people through a sequence.
tracker = dict(type=CenterTracker)
# A leaf changes the steps of a data loader, not these.
del train_steps, test_steps
