"""CenterPoint (Yin et al. 2021, arXiv 2006.11275) for people: pillars of 0.12 x 0.16 m, one class, a map of any stride.

Range and pillars are STCrowd's (answers of its authors). The head is that of DHA with all its parts switched off, see
`models.crowd.head`. `map_stride` above `with read_base()`: 8, 4, 2 or 1 pillars a cell; 1 works on whole pillars from
its first convolution on, as CenterPoint's own code has it on Waymo.
"""

from mmdet3d.models.backbones import SECOND
from mmdet3d.models.detectors import VoxelNet
from mmdet3d.models.necks import SECONDFPN

from perception3d.models.crowd.head import DensityHeatmapHead
from perception3d.models.lidar_det.pillars import CompactPillarFeatureNet, RowPillarsScatter
from perception3d.models.lidar_det.preprocessor import LidarDataPreprocessor

point_cloud_range = [0, -20.48, -4, 30.72, 20.48, 2]
voxel_size = [0.12, 0.16, 6]
# Floats of a point.
num_features = 4
# Pillars along a side of a cell of the map.
map_stride = 2
# Channels and layers: of pillars, of the three blocks of the backbone, of each map of the neck, of the head.
pillar_channels = 64
block_channels, block_layers = [64, 128, 256], [3, 5, 5]
neck_channels = 128
head_channels = 64

# Rows and columns of the map of pillars.
map_shape = [round((point_cloud_range[axis + 3] - point_cloud_range[axis]) / voxel_size[axis]) for axis in (1, 0)]
layer_strides = [1, 2, 2] if map_stride == 1 else [2, 2, 2]
upsample_strides = {1: [1, 2, 4], 2: [1, 2, 4], 4: [0.5, 1, 2], 8: [0.25, 0.5, 1]}[map_stride]

model = dict(
    type=VoxelNet,
    data_preprocessor=dict(
        type=LidarDataPreprocessor,
        voxel=True,
        voxel_layer=dict(
            max_num_points=20,
            point_cloud_range=point_cloud_range,
            voxel_size=voxel_size,
            max_voxels=(30000, 40000),
        ),
    ),
    voxel_encoder=dict(
        type=CompactPillarFeatureNet,
        in_channels=num_features,
        feat_channels=[pillar_channels],
        with_distance=False,
        voxel_size=voxel_size,
        point_cloud_range=point_cloud_range,
        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01),
        legacy=False,
    ),
    middle_encoder=dict(type=RowPillarsScatter, in_channels=pillar_channels, output_shape=map_shape),
    backbone=dict(
        type=SECOND,
        in_channels=pillar_channels,
        out_channels=block_channels,
        layer_nums=block_layers,
        layer_strides=layer_strides,
        norm_cfg=dict(type='BN', eps=1e-3, momentum=0.01),
        conv_cfg=dict(type='Conv2d', bias=False),
    ),
    neck=dict(
        type=SECONDFPN,
        in_channels=block_channels,
        out_channels=[neck_channels] * 3,
        upsample_strides=upsample_strides,
        norm_cfg=dict(type='BN', eps=1e-3, momentum=0.01),
        upsample_cfg=dict(type='deconv', bias=False),
    ),
    bbox_head=dict(
        type=DensityHeatmapHead,
        in_channels=3 * neck_channels,
        range_m=[*point_cloud_range[:2], *point_cloud_range[3:5]],
        parts=dict(
            levels=1,
            aggregation='single',
            density=False,
            coarse=False,
            relation=False,
            counts=False,
            channels=head_channels,
        ),
        targets=dict(kernel='fixed', density='gauss', weighted=False),
        decoder=dict(score_thr=0.02, max_boxes=200, radius_m=0.3),
        # Maps that predictions carry for pictures: True, or some of 'density', 'heatmap', 'levels', 'gates', 'coarse'.
        keep_maps=False,
    ),
)
