"""The built-in world in nuScenes' format."""
