"""BEVFormer: camera detection by attention from a bird's-eye grid to images and to its own past (arXiv 2203.17270)."""
