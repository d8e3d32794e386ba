"""STCrowd: crowds of pedestrians, `anno/`, `pcd/`, `left/`, `split.json`, `camera.json`."""

from __future__ import annotations

from perception3d.formats import Format

FORMAT = Format('stcrowd')
