"""ENet with the stages E1 to E4: 0.93 M parameters for four lanes at 976 x 208, 1.00 M at 800 x 288."""

from mmengine.config import read_base

from perception3d.models.lane.enet import ENet

# Which of E2, E3 and E4 share their eight blocks: 'e3_e4', 'all' or 'none'.
share = 'e3_e4'
dropout = 0.1

with read_base():
    from .lane_segmentor import *

model.net.update(type=ENet, share=share, dropout=dropout)
