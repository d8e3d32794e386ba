"""What a sample and a result are: boxes, point labels, lanes, heatmaps, tracks; each drawable, and as JSON."""
