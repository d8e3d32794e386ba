"""What the metrics of several formats share."""
