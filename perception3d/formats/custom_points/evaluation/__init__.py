"""Scores of one's own labels: of result files, and in mmengine's test loop."""
