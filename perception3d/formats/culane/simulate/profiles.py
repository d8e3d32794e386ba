"""How much of the built-in world is written in this format, and how finely its images are rendered."""

from __future__ import annotations

from perception3d.simulation.profiles import LaneProfile

PROFILES = {
    'tiny': LaneProfile('tiny', 1, 1.0, 1, 4, 16, 9),
    'lanes': LaneProfile('lanes', 2, 1.5, 1, 2, 344, 99),
    'default': LaneProfile('default', 4, 1.0, 2, 1, 160, 72),
}
"""`tiny` is for tests. `lanes` is for experiments on small images: 602 images to train on, 86 to choose by and 198 to
test on. `default` has images as sharp as a camera's."""
