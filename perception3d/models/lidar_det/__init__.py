"""LiDAR detection: what mmdet3d's detectors need to run anywhere, and fast."""

# Registers what mmdet3d's detectors export, expect of their data and respond; every LiDAR config uses a part of this
# folder.
from perception3d.models.lidar_det import expected_data, export, response  # noqa: F401
