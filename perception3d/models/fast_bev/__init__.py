"""Fast-BEV: camera detection by a lookup table and a gather (arXiv 2301.12511, 2301.07870)."""
