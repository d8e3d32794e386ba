"""RangePointNet on SemanticKITTI's range image of 64 x 2048 pixels: 3.6 M parameters, 32 GMACs on a real scan.

A loss of points and one of pixels, each cross-entropy and Lovasz, as HARP-NeXt has them; its boundary loss is left out,
and the equal weights are ours.
"""

from perception3d.models.lidar_seg.losses import LovaszSoftmax, WeightedCrossEntropy
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.range_partition import RangePartition
from perception3d.models.lidar_seg.range_point import RangePointNet
from perception3d.models.lidar_seg.segmentor import PointSegmentor

class_names = [
    'car', 'bicycle', 'motorcycle', 'truck', 'other-vehicle', 'person', 'bicyclist', 'motorcyclist', 'road',
    'parking', 'sidewalk', 'other-ground', 'building', 'fence', 'vegetation', 'trunk', 'terrain', 'pole',
    'traffic-sign',
]  # fmt: skip
# Rows and columns; upper and lower edge in degrees above the horizon.
image_shape = [64, 2048]
field_of_view_deg = [3, -25]
# Axis of the LiDAR frame that points ahead: x.
forward = [1, 0]
# Columns of a point that are features: its intensity.
point_columns = [3]
# Column that holds the laser of a point, counted from the lowest; None: rows by angle.
ring_column = None
# Channels of points, of the map at full resolution, of the stages and of the fused map.
point_channels = 64
stem_channels = 32
widths = [64, 128, 256, 256]
fused_channels = 64
# Of the cross-entropy, one for each class; None for 1.
class_weights = None

model = dict(
    type=PointSegmentor,
    data_preprocessor=dict(
        type=PointSegPreprocessor,
        partition=dict(
            type=RangePartition,
            shape=image_shape,
            up_deg=field_of_view_deg[0],
            down_deg=field_of_view_deg[1],
            forward=forward,
            columns=point_columns,
            ring_column=ring_column,
        ),
    ),
    net=dict(
        type=RangePointNet,
        num_classes=len(class_names),
        in_features=4 + len(point_columns),
        point_channels=point_channels,
        stem_channels=stem_channels,
        widths=widths,
        # Rows are farther apart than columns: the first stage halves columns alone.
        strides=[(1, 2)] + [(2, 2)] * (len(widths) - 1),
        blocks=[1] * len(widths),
        fused_channels=fused_channels,
    ),
    losses=dict(
        point_ce=dict(of='point', type=WeightedCrossEntropy, class_weights=class_weights),
        point_lovasz=dict(of='point', type=LovaszSoftmax),
        pixel_ce=dict(of='voxel', type=WeightedCrossEntropy, class_weights=class_weights),
        pixel_lovasz=dict(of='voxel', type=LovaszSoftmax),
    ),
    predict_from='point',
)
