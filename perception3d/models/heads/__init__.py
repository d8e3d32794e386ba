"""Parts of detection heads that several systems share: heatmaps, suppression by class, ground truth of a batch."""
