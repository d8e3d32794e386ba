"""Views of a cloud for `--tta` where the LiDAR sees all around: as it is, mirrored along either axis, along both."""

from mmdet3d.datasets.transforms import RandomFlip3D

mirrored_views = [
    dict(
        type=RandomFlip3D,
        sync_2d=False,
        flip_ratio_bev_horizontal=float(horizontal),
        flip_ratio_bev_vertical=float(vertical),
    )
    for horizontal in (False, True)
    for vertical in (False, True)
]
