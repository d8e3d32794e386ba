"""People of a crowd: walking, standing and sitting, each with limbs of its own."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.render.materials import CLOTH, MATTE
from perception3d.simulation.render.primitives import Primitives, ShapeBuilder, about_y
from perception3d.simulation.world.agents import ObjectClass
from perception3d.simulation.world.people import cloth, skin_tone, trousers
from perception3d.simulation.world.vehicles import DARK

WALKING, STANDING, SITTING = 'walking', 'standing', 'sitting'
"""The poses, which are the names of the classes in `CROWD_CLASSES`."""
SEAT_M = 0.36
"""Height of what people sit on."""
_Point = tuple[float, float]


class _Figure:
    """A person in the making, whose limbs bend in the x-z plane: x is forward, z up."""

    def __init__(self, rng: np.random.Generator, width: float, height: float) -> None:
        self.rng, self.shape = rng, ShapeBuilder()
        self.width, self.height = width, height
        self.top, self.legs, self.skin = cloth(rng), trousers(rng), skin_tone(rng)

    def limb(self, y: float, joints: list[_Point], thick: tuple[float, float], color: tuple[float, ...]) -> None:
        """Adds cylinders from joint to joint (x, z) beside the axis, `thick` metres at the first and the last."""
        sizes = np.linspace(*thick, len(joints))
        for (x0, z0), (x1, z1), start, end in zip(joints, joints[1:], sizes, sizes[1:]):
            length = float(np.hypot(x1 - x0, z1 - z0)) + 0.03
            turn = about_y(np.arctan2(x1 - x0, z1 - z0))
            center = ((x0 + x1) / 2, y, (z0 + z1) / 2)
            self.shape.cylinder(center, (start, start, length), color, CLOTH, float(end / start), turn)

    def foot(self, x: float, y: float, z: float = 0.05) -> None:
        """Adds a shoe whose heel is under the ankle at x."""
        self.shape.ellipsoid((x + 0.07, y, z), (0.27, 0.1, 0.1), DARK, MATTE)

    def torso(self, hip: _Point, shoulder: _Point) -> None:
        """Adds the trunk from the hip to the shoulders, both (x, z)."""
        run, rise = shoulder[0] - hip[0], shoulder[1] - hip[1]
        center = ((hip[0] + shoulder[0]) / 2, 0.0, (hip[1] + shoulder[1]) / 2)
        size = (0.25, 0.62 * self.width, float(np.hypot(run, rise)) + 0.06)
        self.shape.cylinder(center, size, self.top, CLOTH, 1.12, about_y(np.arctan2(run, rise)))

    def head(self, x: float, top: float) -> None:
        """Adds head and hair; some wear a hat."""
        rng, tall = self.rng, 0.135 * min(self.height, 1.8) + 0.01
        self.shape.ellipsoid((x + 0.02, 0, top - 0.52 * tall), (0.2, 0.17, 1.04 * tall), self.skin, CLOTH)
        hair = (0.02, 0.015, 0.01) if rng.random() < 0.75 else (0.2, 0.12, 0.05)
        color = cloth(rng) if rng.random() < 0.12 else hair
        self.shape.ellipsoid((x - 0.02, 0, top - 0.38 * tall), (0.21, 0.19, 0.76 * tall), color, MATTE)

    def arm(self, side: int, shoulder: _Point, reach: float, bend: float) -> None:
        """Adds an arm; `reach` and `bend` are the angles of its upper and lower part from straight down, radians."""
        part = 0.175 * min(self.height, 1.9)
        y = side * (self.width / 2 - 0.055)
        elbow = (shoulder[0] + part * np.sin(reach), shoulder[1] - part * np.cos(reach))
        hand = (elbow[0] + part * np.sin(bend), elbow[1] - part * np.cos(bend))
        self.limb(y, [shoulder, elbow, hand], (0.11, 0.08), self.top)
        self.shape.ellipsoid((hand[0], y, hand[1]), (0.1, 0.08, 0.11), self.skin, CLOTH)

    def luggage(self, back: float) -> None:
        """Some carry a backpack, whose front is at x = `back`, others a bag in a hand."""
        draw, rng = self.rng.random(), self.rng
        if draw < 0.28:
            size = (float(rng.uniform(0.12, 0.2)), 0.5 * self.width, float(rng.uniform(0.2, 0.28)) * self.height)
            self.shape.box((back - size[0] / 2, 0, 0.69 * self.height), size, cloth(rng), CLOTH)
        elif draw < 0.42:
            side = int(rng.choice([-1, 1]))
            spot = (0.03, side * (self.width / 2 - 0.08), 0.33 * self.height)
            self.shape.box(spot, (0.3, 0.12, float(rng.uniform(0.22, 0.34))), cloth(rng), CLOTH)


def walking(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A person who walks, at some moment of a step; `length`: from the hind to the front foot at its widest."""
    figure = _Figure(rng, width, height)
    phase, side = rng.uniform(0, np.pi), int(rng.choice([-1, 1]))
    hip, shoulder = 0.51 * height, 0.83 * height
    half = 0.5 * max(length - 0.27, 0.05) * np.cos(phase)
    lift = 0.12 * np.sin(phase) * height / 1.75
    for sign in (-1, 1):
        # One leg stands, the other one swings forward with a bent knee.
        y, x, swings = sign * 0.15 * width, sign * side * half, sign == side
        up = lift if swings else 0.0
        knee = (0.5 * x + (0.08 + up if swings else 0.02), 0.27 * height + 0.4 * up)
        figure.limb(y, [(0.0, hip), knee, (x, 0.07 + up)], (0.17, 0.1), figure.legs)
        figure.foot(x, y, 0.05 + up)
        swing = -0.9 * x
        figure.arm(sign, (0.0, shoulder - 0.03), swing, swing + 0.35)
    figure.torso((0.0, hip - 0.02), (0.03, shoulder))
    figure.head(0.04, height)
    figure.luggage(-0.12)
    return figure.shape.build()


def standing(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A person who stands: arms down, at a telephone, or gesturing; the feet make up the `length`."""
    figure = _Figure(rng, width, height)
    hip, shoulder = 0.51 * height, 0.83 * height
    step = min(max(length - 0.38, 0.0), 0.2) * rng.uniform(-0.5, 0.5)
    for sign in (-1, 1):
        y, x = sign * 0.16 * width, sign * step
        figure.limb(y, [(0.0, hip), (0.5 * x + 0.02, 0.27 * height), (x, 0.07)], (0.17, 0.11), figure.legs)
        figure.foot(x, y)
    busy = rng.choice(['none', 'telephone', 'gesture'], p=[0.5, 0.3, 0.2])
    for sign in (-1, 1):
        reach, bend = rng.uniform(-0.05, 0.1), rng.uniform(0.05, 0.3)
        if busy == 'telephone' or (busy == 'gesture' and sign > 0):
            reach, bend = rng.uniform(0.1, 0.35), rng.uniform(1.7, 2.3)
        figure.arm(sign, (0.0, shoulder - 0.03), float(reach), float(bend))
    figure.torso((0.0, hip - 0.02), (0.0, shoulder))
    figure.head(0.02 if busy != 'telephone' else 0.05, height)
    figure.luggage(-0.12)
    return figure.shape.build()


def sitting(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A person who sits at height `SEAT_M`; `length`: from the back to the tips of the shoes."""
    figure = _Figure(rng, width, height)
    hip, shoulder, knee = (-0.5 * length + 0.14, SEAT_M + 0.1), height - 0.24, 0.5 * length - 0.22
    lean = float(rng.uniform(0.0, 0.12))
    for sign in (-1, 1):
        y = sign * 0.17 * width
        figure.limb(y, [hip, (knee, SEAT_M + 0.1), (knee + 0.02, 0.07)], (0.17, 0.1), figure.legs)
        figure.foot(knee, y)
        reach = float(rng.uniform(0.3, 0.7))
        figure.arm(sign, (hip[0] + lean, shoulder - 0.03), reach, reach + 0.8)
    figure.torso(hip, (hip[0] + lean, shoulder))
    figure.head(hip[0] + lean + 0.03, height)
    return figure.shape.build()


CROWD_CLASSES: dict[str, ObjectClass] = {
    WALKING: ObjectClass((0.66, 0.55, 1.70), (0.10, 0.05, 0.09), walking),
    STANDING: ObjectClass((0.42, 0.54, 1.70), (0.06, 0.05, 0.09), standing),
    SITTING: ObjectClass((0.82, 0.52, 1.08), (0.05, 0.04, 0.03), sitting),
}
"""Sizes of people. Means are chosen so that labelled boxes, margin included, are about as large as STCrowd's mean of
0.57 x 0.60 m, which its authors gave for the baselines' anchors; the spreads are ours."""
CHILD_CLASSES: dict[str, ObjectClass] = {
    WALKING: ObjectClass((0.55, 0.45, 1.36), (0.08, 0.04, 0.06), walking),
    STANDING: ObjectClass((0.40, 0.43, 1.36), (0.04, 0.04, 0.06), standing),
    SITTING: CROWD_CLASSES[SITTING],
}
"""Sizes of children, who are 1.2 m tall or more: lower boxes are those of people who sit."""
