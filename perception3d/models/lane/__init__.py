"""Lane detection in the image of the front camera: segmentation of lanes and which of them exist."""
