"""CULane in whole images of 800 x 288 pixels, the input of SCNN and of the paper on SAD; scales of SCNN's training."""

from mmengine.config import read_base

crop_top_px = 0
input_hw = [288, 800]
# Widths of 760 to 842 of 800 pixels, heights of 274 to 304 of 288.
scale_x, scale_y, rotate_deg = [0.95, 1.0525], [0.951, 1.056], 1.0

with read_base():
    from .culane import *
