"""A small Cylinder3D for the built-in world in SemanticKITTI's format, on a CPU: 120 x 90 x 16 cells, width 8.

Make the data first: `python tools/simulate.py semantickitti --out data/semantickitti_sim` and
`python tools/create_data.py semantickitti --root data/semantickitti_sim`.
"""

from mmengine.config import read_base

data_root = 'data/semantickitti_sim'
grid_shape = [120, 90, 16]
width, compressed_channels = 8, 16
point_hidden, point_channels = [32, 64], 64
lr, max_epochs = 0.003, 12
val_interval = max_epochs

with read_base():
    from .._base_.datasets.semantickitti import *
    from .._base_.models.cylinder3d import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

train_dataloader.update(batch_size=2, num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = val_dataloader
