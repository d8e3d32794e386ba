"""LiDAR detection: what mmdet3d's detectors need to run anywhere, and fast."""

# Imported for their registrations: what mmdet3d's detectors export, expect of their data and respond.
from perception3d.models.lidar_det import expected_data, export, response  # noqa: F401
