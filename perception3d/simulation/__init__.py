"""The built-in world: streets, traffic, cameras and a LiDAR, written in the formats of real data sets."""
