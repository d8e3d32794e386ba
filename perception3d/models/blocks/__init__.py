"""Parts that the camera systems share: projections and ground of a batch, and the preprocessor of its images."""
