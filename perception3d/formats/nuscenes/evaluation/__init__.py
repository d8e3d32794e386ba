"""nuScenes detection by the devkit: the metric of a training and the scores of a submission file."""
