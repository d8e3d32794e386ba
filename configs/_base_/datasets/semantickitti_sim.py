"""The built-in world in SemanticKITTI's format, in batches for a CPU.

Make it first: `python tools/simulate.py semantickitti --out data/semantickitti_sim --profile points` and
`python tools/create_data.py semantickitti --root data/semantickitti_sim`.
"""

from mmengine.config import read_base

data_root = 'data/semantickitti_sim'

with read_base():
    from .semantickitti import *

train_dataloader.update(batch_size=2, num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file=test_ann_file))

# Classes with less than 1 % of the points, and what is far away, on their own.
val_evaluator.update(
    class_groups=dict(
        rare=['bicycle', 'motorcycle', 'person', 'bicyclist', 'motorcyclist', 'trunk', 'pole', 'traffic-sign']
    ),
    range_bins_m=[(0, 30), (30, None)],
)
test_evaluator = val_evaluator
