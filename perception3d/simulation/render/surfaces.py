"""What a point of a sweep lies on: the parts of the ground and of the scenery."""

from __future__ import annotations

from enum import IntEnum


class Surface(IntEnum):
    """What the ground or a solid is.

    The first five are painted on the ground; TERRAIN is everything outside the streets: lots, lawns, earth. ISLAND is
    raised and flat, and not to be walked or driven on. FENCE is any separator: fences, walls, guard rails. SIGN is the
    plate alone, POLE also its post, lamp posts, signals and bollards. FIXTURE is what else stands in a street: bins,
    cabinets. OBJECT belongs to an agent, whose class says more.
    """

    TERRAIN = 0
    SIDEWALK = 1
    CURB = 2
    ROAD = 3
    MARKING = 4
    PARKING = 5
    ISLAND = 6
    BUILDING = 7
    FENCE = 8
    VEGETATION = 9
    TRUNK = 10
    POLE = 11
    SIGN = 12
    FIXTURE = 13
    OBJECT = 14
