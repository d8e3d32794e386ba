"""LLAMAS' scores: splines by CULane's metric, average precision of pixels; of files, and in mmengine's test loop."""
