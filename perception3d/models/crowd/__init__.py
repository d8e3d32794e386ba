"""Crowds of pedestrians: detection in dense groups, and tracks over time."""
