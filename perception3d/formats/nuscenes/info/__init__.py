"""Info files and the ground-truth database of a nuScenes tree."""
