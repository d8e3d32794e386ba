"""The built-in world in KITTI's format."""
