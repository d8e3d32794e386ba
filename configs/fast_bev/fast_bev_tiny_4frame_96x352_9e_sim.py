"""The small Fast-BEV with four frames, which can tell speeds, for scenes of several keyframes of the built-in world.

Made by `tools/simulate.py nuscenes --out data/sim_drive --profile tiny --scenes 120 --val-scenes 30 --keyframes 5`; the
history are keyframes 0.5 s apart, at the start of a scene the oldest one again.
"""

from mmengine.config import read_base

data_root = 'data/sim_drive'
num_frames = 4

with read_base():
    from .fast_bev_tiny_96x352_9e_sim import *

model.bbox_head.code_weights = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)
