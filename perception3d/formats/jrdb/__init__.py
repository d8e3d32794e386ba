"""JRDB: people around a robot, `pointclouds/`, `labels/`, `calibration/`."""

from __future__ import annotations

from perception3d.formats import Format

FORMAT = Format('jrdb')
