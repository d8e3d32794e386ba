"""CLRNet-R18 on CULane, rows from 270 down at 800 x 320, after the paper: AdamW, 6e-4, batches of 24, a cosine.

Warm-up and clipping are ours, and so is the augmentation, which has what `AugmentLaneImage` can: mirrored, scaled,
rotated and brighter images, but no swapped channels, no hue and no blur. The authors begin with ImageNet's weights: set
`pretrained`. It was not trained here.
"""

from mmengine.config import read_base

crop_top_px, input_hw = 270, [320, 800]
scale_x, scale_y, rotate_deg = [0.8, 1.2], [0.8, 1.2], 10.0
batch_size = 24
lr, max_epochs, val_interval = 6e-4, 15, 3

with read_base():
    from .._base_.datasets.culane import *
    from .._base_.models.clrnet import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *

train_dataloader['dataset']['pipeline']['augment'].update(flip_prob=0.5, brightness=10, contrast=0.15, saturation=0.1)
auto_scale_lr.update(base_batch_size=batch_size)
