"""nuScenes for cameras of four frames, with the augmentation of Fast-BEV. `tools/create_data.py nuscenes` first."""

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
train_ann_file = 'perception3d_infos_train.pkl'
val_ann_file = 'perception3d_infos_val.pkl'
point_cloud_range = [-50, -50, -5, 50, 50, 3]
num_frames = 4
image_hw = (256, 704)

train_steps = dict(
    load=dict(type=LoadMultiViewHistory),
    images=dict(type=ImageAugment, final_hw=image_hw),
    boxes=dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
    bev=dict(type=BEVAugment),
    boxes_in_range=dict(type=ObjectRangeFilter, point_cloud_range=point_cloud_range),
    pack=dict(type=PackCameraInputs),
)
test_steps = dict(
    load=dict(type=LoadMultiViewHistory),
    images=dict(type=ImageAugment, final_hw=image_hw, test_mode=True),
    pack=dict(type=PackCameraInputs),
)

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
            ann_file=train_ann_file,
            num_frames=num_frames,
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
        ann_file=val_ann_file,
        num_frames=num_frames,
        pipeline=test_steps,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

# A leaf changes the steps of a data loader, not these.
del train_steps, test_steps

val_evaluator = dict(type=NuScenesDetectionMetric, data_root=data_root)
test_evaluator = val_evaluator
