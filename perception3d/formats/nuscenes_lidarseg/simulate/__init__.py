"""The built-in world in the format of nuScenes-lidarseg."""
