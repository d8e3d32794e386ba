"""Fast-BEV on a camera rig of your own (data/README.md): copy this file and set its values, the rest follows."""

from mmengine.config import read_base

data_root = 'data/my_rig'
train_ann_file, val_ann_file = 'perception3d_infos_my_train.pkl', 'perception3d_infos_my_val.pkl'
# Classes of the info files, in the order of the labels.
class_names = ['car', 'truck', 'pedestrian']
# Height and width to which images are scaled and cut.
image_hw = (256, 704)
# How many frames a sample has: the current one, and those before it.
num_frames = 1
# x, y, z from and to, in metres in the LiDAR frame, and how many voxels lie along each.
range_m = [-50, -50, -4, 50, 50, 2]
voxel_shape = (200, 200, 4)
max_epochs = 20

with read_base():
    from .._base_.custom_fast_bev import *
