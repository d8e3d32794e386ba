"""The built-in world for the tiny camera detectors: single frames of 96 x 352, no class-balanced sampling."""

from mmengine.config import read_base

data_root = 'data/sim_tiny'
train_ann_file = 'perception3d_infos_sim_train.pkl'
val_ann_file = 'perception3d_infos_sim_val.pkl'
image_hw = (96, 352)
num_frames = 1

with read_base():
    from .nuscenes_camera import *

train_dataloader.dataset = train_dataloader.dataset.dataset
train_dataloader.update(batch_size=2, num_workers=1)
# A few minutes of training see each sample a few times: only mirrored streets are worth their noise.
steps = train_dataloader.dataset.pipeline
steps.images.test_mode = True
steps.bev.update(flip_y_prob=0.0, rotate_rad=(-0.05, 0.05), scale=(1.0, 1.0))
del steps
val_dataloader.update(batch_size=4, num_workers=1)
test_dataloader = val_dataloader
