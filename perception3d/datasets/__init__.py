"""Data sets and transforms that mmdet3d lacks."""
