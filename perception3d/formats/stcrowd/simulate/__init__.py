"""The built-in world in STCrowd's format."""
