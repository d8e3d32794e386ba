"""Pictures, videos and 3D views of samples, ground truth and predictions; no display needed except for `view3d`."""
