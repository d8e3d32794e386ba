"""The models of the package, one folder a system."""
