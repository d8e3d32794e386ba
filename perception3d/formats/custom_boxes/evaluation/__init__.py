"""Average precision in the LiDAR frame, of a training and of result files."""
