"""The metrics of nuScenes-lidarseg and Panoptic nuScenes."""
