"""Night and dazzling light, put on an image that was shaded under an even light.

At night the linear light of an image that was shaded with all light from a white sky is about the reflectance of what
is seen. It is multiplied by the light that arrives at each point: a little from the sky, some from street lamps, and
the low beam of the ego vehicle. Shapes of beams and all strengths are plausible values of our own; lamps cast no
shadows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from perception3d.simulation.render.camera import Frame
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.raster import GROUND, SKY
from perception3d.simulation.render.shade import Triple

GLOW_REACH = 14.0
"""How far a glow is drawn, in its own radii."""


class NightLight(NamedTuple):
    """Light of a night.

    sky: linear RGB of the sky; ambient: of the light from everywhere; lamp: of a street lamp in 1 m; beam: strength of
    the ego vehicle's low beam; lamps (L, 3): places of the street lamps in the world, metres.
    """

    sky: Triple
    ambient: Triple
    lamp: Triple
    beam: float
    lamps: np.ndarray


@kernel(fastmath=True)
def _beam(point, beam):
    """Returns the low beam's light at a point; beam: x, y, z of the lamps, cos and sin of their direction, strength."""
    dx, dy, dz = point[0] - beam[0], point[1] - beam[1], point[2] - beam[2]
    ahead, aside = dx * beam[3] + dy * beam[4], dy * beam[3] - dx * beam[4]
    if ahead < 0.3:
        return 0.0
    rise, turn = dz / ahead, aside / ahead
    # The intensity grows towards the edge of the beam, a little below the horizon, so that the road is lit evenly.
    shape = math.exp(-((turn / 0.42) ** 2)) / (1.0 + math.exp((rise + 0.004) / 0.006)) / (abs(rise) + 0.02) ** 2
    return beam[5] * shape / (dx * dx + dy * dy + dz * dz)


@kernel(parallel=True, fastmath=True)
def _light_points(linear, depth, ids, numbers, lamps, emitted):
    """Multiplies `linear` by the light at every point.

    numbers: origin and matrix of the rays (12), the low beam (6), colours of sky, surroundings and street lamps (9);
    emitted (N, 3): of each solid.
    """
    rays, beam, colors = numbers[:12], numbers[12:18], numbers[18:27].reshape(3, 3)
    for v in prange(depth.shape[0]):
        for u in range(depth.shape[1]):
            seen = ids[v, u]
            if seen == SKY:
                for c in range(3):
                    linear[v, u, c] = colors[0, c]
                continue
            if seen >= 0 and emitted[seen, 0] > 0.0:
                for c in range(3):
                    linear[v, u, c] = emitted[seen, c]
                continue
            t = depth[v, u]
            x = rays[0] + t * (rays[3] * u + rays[4] * v + rays[5])
            y = rays[1] + t * (rays[6] * u + rays[7] * v + rays[8])
            z = rays[2] + t * (rays[9] * u + rays[10] * v + rays[11])
            level = 0.0
            for k in range(len(lamps)):
                dx, dy, dz = lamps[k, 0] - x, lamps[k, 1] - y, lamps[k, 2] - z
                square = dx * dx + dy * dy + dz * dz + 0.5
                # The ground faces up; a solid's side that is seen is lit at half the angle, whichever way it faces.
                facing = max(dz, 0.0) / math.sqrt(square) if seen == GROUND else 0.5
                level += facing / square
            head = _beam((x, y, z), beam)
            if seen == GROUND:
                head *= beam[2] / math.sqrt((x - beam[0]) ** 2 + (y - beam[1]) ** 2 + beam[2] ** 2)
            else:
                head *= 0.12
            for c in range(3):
                tint = 1.0 if c == 0 else 0.93 if c == 1 else 0.8
                linear[v, u, c] *= colors[1, c] + level * colors[2, c] + head * tint


def light_night(frame: Frame, night: NightLight, beam_pose: np.ndarray, emitted: np.ndarray) -> None:
    """Turns an evenly lit image into one of the night, in place.

    beam_pose (5,): x, y, z of the ego vehicle's head lamps in the world, cos and sin of their direction. emitted
    (N, 3): linear light of the solids that shine themselves, 0 for all others.
    """
    rays = (*frame.rays.origin, *frame.rays.matrix)
    colors = (*night.sky, *night.ambient, *night.lamp)
    numbers = np.array([*rays, *beam_pose, night.beam, *colors], np.float64)
    lamps = np.ascontiguousarray(night.lamps, np.float64)
    shining = np.ascontiguousarray(emitted, np.float64)
    _light_points(frame.linear, frame.surfaces.depth, frame.surfaces.ids, numbers, lamps, shining)


@kernel(parallel=True, fastmath=True)
def add_glow(linear, sources, veil):
    """Adds the light that optics scatter: a veil (3,) everywhere and a halo around each source.

    sources (S, 6): column, row and radius of the halo in pixels, linear RGB at its center. A halo falls off as
    (1 + (distance / radius)^2)^-1.5.
    """
    for v in prange(linear.shape[0]):
        for u in range(linear.shape[1]):
            for c in range(3):
                linear[v, u, c] += veil[c]
        for k in range(len(sources)):
            radius = sources[k, 2]
            reach, dv = GLOW_REACH * radius, v - sources[k, 1]
            if abs(dv) > reach:
                continue
            first = max(0, int(sources[k, 0] - reach))
            last = min(linear.shape[1], int(sources[k, 0] + reach) + 1)
            for u in range(first, last):
                du = u - sources[k, 0]
                share = 1.0 + (du * du + dv * dv) / (radius * radius)
                share = 1.0 / (share * math.sqrt(share))
                for c in range(3):
                    linear[v, u, c] += share * sources[k, 3 + c]
