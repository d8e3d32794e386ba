"""CULane, 1640 x 590 pixels: 88,880 images of training, 9,675 of validation, 34,680 of the test in nine categories.

`tools/create_data.py culane` first. The default is `culane_crop`, the input of the released models: rows from 240 down
at 976 x 208 pixels, with the scales and rotations of their training. `culane_full.py` has whole images of 800 x 288.
"""

from mmengine.dataset import DefaultSampler

from perception3d.datasets.transforms.lane_augment import AugmentLaneImage
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage, LoadLaneImage
from perception3d.datasets.transforms.lane_packing import PackLaneInputs
from perception3d.engine.reproducible import ResumableSampler
from perception3d.formats.culane.dataset import CULaneDataset
from perception3d.formats.culane.evaluation.metric import LaneCULaneMetric

data_root = 'data/culane'
train_ann_file = 'perception3d_infos_train.pkl'
val_ann_file = 'perception3d_infos_val.pkl'
test_ann_file = 'perception3d_infos_test.pkl'
crop_top_px = 240
input_hw = [208, 976]
# Widths of 936 to 1018 of 976 pixels, heights of 194 to 224 of 208.
scale_x, scale_y, rotate_deg = [0.959, 1.043], [0.933, 1.077], 1.0
# Of lanes without a mask on disk.
lane_width_px = 16
batch_size = 12

train_steps = dict(
    load=dict(type=LoadLaneImage, with_mask=True, lane_width_px=lane_width_px),
    resize=dict(type=CropResizeLaneImage, crop_top_px=crop_top_px, input_hw=input_hw),
    augment=dict(type=AugmentLaneImage, scale_x=scale_x, scale_y=scale_y, rotate_deg=rotate_deg),
    pack=dict(type=PackLaneInputs),
)
test_steps = dict(load=dict(type=LoadLaneImage), resize=train_steps['resize'], pack=train_steps['pack'])

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=CULaneDataset, data_root=data_root, ann_file=train_ann_file, pipeline=train_steps, test_mode=False
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CULaneDataset, data_root=data_root, ann_file=val_ann_file, pipeline=test_steps, test_mode=True),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CULaneDataset, data_root=data_root, ann_file=test_ann_file, pipeline=test_steps, test_mode=True),
)

val_evaluator = dict(type=LaneCULaneMetric)
test_evaluator = val_evaluator

# A leaf changes the steps of a data loader, not these.
del train_steps, test_steps
