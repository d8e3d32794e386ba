"""Sensors: how the world looks to cameras and to a laser scanner."""
