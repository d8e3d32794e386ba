"""KITTI's object benchmark: its rules, the reader of result folders and the metric of a training."""
