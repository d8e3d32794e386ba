"""SemanticKITTI for networks on small cubes: a scan of the training keeps 80,000 of them at most, as in SPVNAS.

Augmentation as there: a rotation by any angle, scaling by 0.95 to 1.05, no flips.
"""

import math

from mmengine.config import read_base

from perception3d.datasets.transforms.point_views import SampleVoxels

voxel_size_m = 0.05
max_voxels = 80_000

with read_base():
    from .semantickitti import *

steps = train_dataloader.dataset.pipeline
del steps['mirror']
steps.rotate.update(rot_range=[-math.pi, math.pi], translation_std=[0, 0, 0])
steps.update(voxels=dict(type=SampleVoxels, max_voxels=max_voxels, voxel_size_m=voxel_size_m), pack=steps.pop('pack'))
del steps
