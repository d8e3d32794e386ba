"""A scene with a crowd: a place, its people for some seconds, and the sensors that stand still."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.render.primitives import concatenate
from perception3d.simulation.world.agents import Agent, make_body
from perception3d.simulation.world.appearance import draw_ground_colors, draw_light
from perception3d.simulation.world.crowd_motion import Crowd, too_near, walk
from perception3d.simulation.world.crowd_people import CHILD_CLASSES, CROWD_CLASSES, SITTING, STANDING, WALKING
from perception3d.simulation.world.crowd_places import KINDS, Place, make_place
from perception3d.simulation.world.footprints import Places
from perception3d.simulation.world.populate import Clock
from perception3d.simulation.world.road import ground_arrays
from perception3d.simulation.world.scene import LEAD_S, STEP_S, Scene
from perception3d.simulation.world.town import build_town

PEOPLE = (16, 52)
"""Lowest and highest number of people in a scene."""
CHILDREN = 0.06
"""Share of children."""
_GOLDEN = 0.6180339887498949
_SMALL_M, _CLEARANCE_M = 1.3, 0.3


def people_of(seed: int, index: int) -> int:
    """Returns how many people scene `index` has.

    Numbers of following scenes are spread evenly over `PEOPLE`, so that few scenes have about the mean of many.
    """
    share = (np.random.default_rng(seed).random() + _GOLDEN * index) % 1.0
    return int(round(PEOPLE[0] + share * (PEOPLE[1] - PEOPLE[0])))


def make_crowd_scene(seed: int, index: int, duration_s: float) -> Scene:
    """Draws scene `index` of `seed`, valid from `LEAD_S` before 0 to `LEAD_S` after `duration_s` seconds.

    The kinds of places take turns. The sensors' vehicle stands at the origin and looks along x. All agents are people;
    `name` is what they do.
    """
    rng = np.random.default_rng([seed, index, 17])
    clock = Clock(-LEAD_S, STEP_S, int(np.ceil((duration_s + 2 * LEAD_S) / STEP_S)) + 2)
    place = make_place(rng, KINDS[index % len(KINDS)], people_of(seed, index), duration_s)
    light, weather = draw_light(rng)
    colors = draw_ground_colors(rng, light.seed)
    rects = Places()
    rects.take(_reserved(place))
    town = build_town(rng, place.layout, rects, (-55.0, 55.0))
    agents = _people(rng, place, rects.taken[1:], clock)
    scenery = concatenate([town, *place.furniture])
    ground = ground_arrays(place.layout, colors)
    noise_seed = int(rng.integers(1, 2**30))
    stays = np.zeros((clock.steps, 3))
    return Scene(index, noise_seed, place.layout, ground, light, weather, scenery, agents, stays, clock)


def _reserved(place: Place) -> tuple[float, float, float, float, float]:
    """Returns the rectangle around the sensors and the zone in which only the place's own furniture stands."""
    reach = 2.5 * place.spread + 1.0
    low, high = np.minimum(place.middle - reach, (-3.0, -2.5)), np.maximum(place.middle + reach, (1.5, 2.5))
    middle, extent = (low + high) / 2, high - low
    return float(middle[0]), float(middle[1]), float(extent[0]), float(extent[1]), 0.0


def _people(rng: np.random.Generator, place: Place, rects: np.ndarray, clock: Clock) -> list[Agent]:
    """Returns the people of a place; who would walk through something is left out. rects (R, 5): of the town."""
    small = rects[:, 2:4].max(1) <= _SMALL_M
    posts = np.column_stack([rects[small, :2], rects[small, 2:4].max(1) / 2])
    obstacles = np.concatenate([np.array(place.obstacles), posts])
    bodies, pace = [], []
    for group in place.groups:
        name = SITTING if group.seated else (WALKING if group.pace_m_s > 0 else STANDING)
        for _ in group.slots:
            bodies.append(make_body(rng, name, classes=CHILD_CLASSES if rng.random() < CHILDREN else CROWD_CLASSES))
        pace += [group.pace_m_s] * len(group.slots)
    sizes = np.array([body.size_m[:2] for body in bodies])
    tracks = walk(Crowd(place.groups, sizes, obstacles), clock.steps, clock.step_s)
    removed = set(too_near(tracks, obstacles)) | _inside(tracks, rects[~small])
    return [
        Agent(body, track, np.full(clock.steps, speed))
        for k, (body, track, speed) in enumerate(zip(bodies, tracks, pace, strict=True))
        if k not in removed
    ]


def _inside(tracks: np.ndarray, rects: np.ndarray) -> set[int]:
    """Returns who ever comes into one of the rectangles (R, 5)."""
    offset = tracks[:, :, None, :2] - rects[None, None, :, :2]
    cos, sin = np.cos(rects[:, 4]), np.sin(rects[:, 4])
    along = np.abs(offset[..., 0] * cos + offset[..., 1] * sin)
    across = np.abs(offset[..., 1] * cos - offset[..., 0] * sin)
    hit = (along < rects[:, 2] / 2 + _CLEARANCE_M) & (across < rects[:, 3] / 2 + _CLEARANCE_M)
    return set(np.flatnonzero(hit.any((1, 2))).tolist())
