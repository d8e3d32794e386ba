"""How much of the built-in world is written in this format, and how finely its images are rendered."""

from __future__ import annotations

from perception3d.simulation.profiles import LaneProfile

PROFILES = {
    'tiny': LaneProfile('tiny', 1, 1.0, 1, 4, 16, 9),
    'lanes': LaneProfile('lanes', 2, 1.5, 1, 2, 600, 270),
    'default': LaneProfile('default', 4, 1.0, 2, 1, 160, 72),
}
"""`tiny` is for tests. `lanes` is for experiments on small images: 1,050 images to train on, 150 to choose by and 540
to test on, 60 of each category. `default` has images as sharp as a camera's."""
