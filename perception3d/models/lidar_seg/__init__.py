"""Semantic segmentation of LiDAR point clouds: a class for each point."""
