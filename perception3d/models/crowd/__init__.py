"""People in crowds: detection by density-aware hierarchical heatmaps on BEV maps of LiDAR, and their tracks."""
