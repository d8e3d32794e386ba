"""nuScenes for cameras of four moments, with the augmentation of Fast-BEV. `tools/create_data.py nuscenes` first."""

from mmdet3d.datasets.transforms import LoadAnnotations3D, ObjectRangeFilter
from mmengine.dataset import DefaultSampler

from perception3d.datasets.balanced import SeededCBGSDataset
from perception3d.datasets.transforms.camera_augment import BEVAugment, ImageAugment
from perception3d.datasets.transforms.camera_loading import LoadMultiViewHistory
from perception3d.datasets.transforms.camera_packing import PackCameraInputs
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.evaluation.metric import NuScenesDetectionMetric

data_root = 'data/nuscenes'
point_cloud_range = [-50, -50, -5, 50, 50, 3]
num_frames = 4
image_hw = (256, 704)

train_pipeline = [
    dict(type=LoadMultiViewHistory),
    dict(type=ImageAugment, final_hw=image_hw),
    dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    dict(type=BEVAugment),
    dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    dict(type=PackCameraInputs),
]
test_pipeline = [
    dict(type=LoadMultiViewHistory),
    dict(type=ImageAugment, final_hw=image_hw, test_mode=True),
    dict(type=PackCameraInputs),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SeededCBGSDataset,
        dataset=dict(
            type=MultiFrameNuScenesDataset,
            data_root=data_root,
            ann_file='perception3d_infos_train.pkl',
            num_frames=num_frames,
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
        type=MultiFrameNuScenesDataset,
        data_root=data_root,
        ann_file='perception3d_infos_val.pkl',
        num_frames=num_frames,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=NuScenesDetectionMetric, data_root=data_root)
test_evaluator = val_evaluator
