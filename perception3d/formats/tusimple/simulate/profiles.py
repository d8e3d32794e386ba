"""How much of the built-in world is written in this format, and how finely its images are rendered."""

from __future__ import annotations

from perception3d.simulation.profiles import LaneProfile

PROFILES = {
    'tiny': LaneProfile('tiny', 1, 1.0, 1, 4, 16, 4),
    'lanes': LaneProfile('lanes', 2, 1.5, 1, 2, 192, 50),
    'default': LaneProfile('default', 2, 1.5, 2, 1, 240, 60),
}
"""`tiny` is for tests. `lanes` is for experiments on small images: 336 images to train on, 48 to choose by and 100 to
test on. `default` has images as sharp as a camera's."""
