"""The built-in world: streets, traffic, cameras and a laser scanner, written in the formats of real data sets."""
