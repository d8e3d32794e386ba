"""A small RangePointNet for the built-in world in SemanticKITTI's format, on a CPU: 64 x 512 pixels, three stages.

Make the data first: `python tools/simulate.py semantickitti --out data/semantickitti_sim` and
`python tools/create_data.py semantickitti --root data/semantickitti_sim`.
"""

from mmengine.config import read_base

data_root = 'data/semantickitti_sim'
image_shape = [64, 512]
point_channels, stem_channels, fused_channels = 32, 16, 48
widths = [32, 64, 128]
lr, max_epochs = 0.003, 12
val_interval = max_epochs

with read_base():
    from .._base_.datasets.semantickitti import *
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

train_dataloader.update(batch_size=2, num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = val_dataloader
