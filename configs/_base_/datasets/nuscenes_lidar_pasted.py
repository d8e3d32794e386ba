"""nuScenes for CenterPoint, with pasted objects. `tools/create_data.py nuscenes --database` first.

Numbers and least points of the objects are those of CenterPoint (tianweiy/CenterPoint, configs/nusc, after CBGS, arXiv
1908.09492) and of mmdet3d's configs of it. Both paste until the end; that the last 5 of 20 epochs are without is from
PointAugmenting (CVPR 2021, section 3.4), which builds on CenterPoint. `custom_hooks=[]` pastes until the end.
"""

from mmengine.config import read_base

from perception3d.datasets.transforms.lidar_augment import PasteObjects
from perception3d.engine.fading import FadeObjectSampleHook

with read_base():
    from .nuscenes_lidar import *

# The head's tasks take labels in this order, which is not that of the infos.
metainfo = dict(classes=class_names)
sample_groups = dict(
    car=2,
    truck=3,
    construction_vehicle=7,
    bus=4,
    trailer=6,
    barrier=2,
    motorcycle=6,
    bicycle=6,
    pedestrian=2,
    traffic_cone=2,
)
db_sampler = dict(
    data_root=data_root,
    classes=class_names,
    sample_groups=sample_groups,
    min_points=dict.fromkeys(sample_groups, 5),
    load_dim=5,
    use_dim=5,
    made_by='nuscenes --database',
)
train_dataloader.dataset.dataset.metainfo = metainfo
# After the annotations, before the frame is rotated, scaled and mirrored.
steps = train_dataloader.dataset.dataset.pipeline
loading = {name: steps.pop(name) for name in ('load', 'sweeps', 'boxes')}
paste = dict(type=PasteObjects, db_sampler=db_sampler)
train_dataloader.dataset.dataset.pipeline = dict(**loading, paste=paste, **steps)
del steps, loading, paste
val_dataloader.dataset.metainfo = metainfo
test_dataloader = val_dataloader
# Epochs without pasted objects at the end.
last_epochs = 5
custom_hooks = [dict(type=FadeObjectSampleHook, last_epochs=last_epochs)]
