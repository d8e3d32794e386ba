"""LiDAR detection: what mmdet3d's detectors need to run anywhere, and fast."""
