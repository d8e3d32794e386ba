"""Faster forms of layers for inference: results change by rounding only."""
