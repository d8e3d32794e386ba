"""ENet with one class for all lanes and an embedding for each pixel: 0.47 M parameters; lanes by clusters.

The weight of the embedding loss is ours. Other networks: `model.net.base` and `model.net.channels`.
"""

from mmengine.config import read_base

from perception3d.models.lane.agnostic import AgnosticLaneNet, LaneEmbeddingLoss
from perception3d.models.lane.cluster_decoder import ClusterDecoder
from perception3d.models.lane.enet import ENet
from perception3d.models.lane.losses import LaneCrossEntropyLoss, LaneSoftIoULoss

# Rows of the network's image between two points of a lane.
row_step = 8

with read_base():
    from .lane_segmentor import *

model.agnostic = True
model.net = dict(type=AgnosticLaneNet, base=dict(type=ENet), channels=128, input_hw=input_hw)
model.losses = dict(
    seg=dict(type=LaneCrossEntropyLoss),
    iou=dict(type=LaneSoftIoULoss, weight=0.1),
    embed=dict(type=LaneEmbeddingLoss, weight=0.1),
)
model.decoder = dict(type=ClusterDecoder, row_step=row_step, threshold=0.5, bandwidth=1.5, max_clusters=64)
