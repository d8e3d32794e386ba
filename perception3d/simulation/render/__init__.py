"""The renderer: what cameras and LiDARs measure of a set of solids on a painted ground."""
