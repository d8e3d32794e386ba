"""Scores of one's own lanes by CULane's rule: of result files, and in mmengine's test loop."""
