"""Light of the nine categories of lane data: day, cast shadows, dazzling sun, night with lamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception3d.simulation.render.materials import HEAD_LAMP, MATTE, TAIL_LAMP
from perception3d.simulation.render.night import NightLight
from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.render.shade import Light, as_triple
from perception3d.simulation.world.agents import Agent, Body
from perception3d.simulation.world.appearance import draw_light
from perception3d.simulation.world.town import are_lamp_heads

HEAD_RGB, TAIL_RGB, STREET_RGB = (9.0, 8.6, 7.4), (1.6, 0.05, 0.03), (5.0, 4.0, 2.4)
"""Linear light of lamps, far above the white of an image, and of tail lamps."""


@dataclass(frozen=True)
class LaneLight:
    """Light of a scene: of the sun and sky, of the night if it is one, and how much the sun dazzles (0: not).

    glare: strength and radius in radians of the sun's halo, and the veil over the whole image.
    """

    light: Light
    weather: str
    night: NightLight | None = None
    glare: tuple[float, float, float] = (0.0, 0.0, 0.0)


def draw_lane_light(rng: np.random.Generator, category: str, scenery: Primitives) -> LaneLight:
    """Draws the light of a scene; the lamps of a night are those of the scenery."""
    if category == 'night':
        return _night(rng, scenery)
    weathers = {'shadow': ('clear',), 'hlight': ('clear',)}.get(category, ('clear', 'cloudy', 'haze', 'rain', 'dusk'))
    light, weather = draw_light(rng)
    while weather not in weathers:
        light, weather = draw_light(rng)
    if category == 'shadow':
        # The sun is mostly on the right, where the ego vehicle drives: what stands there throws its shadow
        # across its lanes.
        azimuth = float(rng.choice([-1, 1], p=[0.85, 0.15]) * rng.uniform(0.7, 2.2))
        to_sun = _direction(azimuth, np.deg2rad(rng.uniform(26, 46)))
        sun = as_triple(np.array(light.sun) * rng.uniform(1.0, 1.5))
        return LaneLight(light._replace(to_sun=to_sun, sun=sun, clouds=0.1), weather)
    if category == 'hlight':
        return _dazzling(rng, light)
    return LaneLight(light, weather)


def _direction(azimuth_rad: float, elevation_rad: float) -> tuple[float, float, float]:
    flat = np.cos(elevation_rad)
    return as_triple(np.array([flat * np.cos(azimuth_rad), flat * np.sin(azimuth_rad), np.sin(elevation_rad)]))


def _dazzling(rng: np.random.Generator, light: Light) -> LaneLight:
    """Returns the light of a low sun ahead, which a smooth or damp road reflects."""
    elevation = np.deg2rad(rng.uniform(5.0, 13.0))
    warm = rng.uniform(0.5, 0.95)
    sun = as_triple(np.array([3.2, 3.2 * (0.4 + 0.6 * warm), 3.2 * (0.15 + 0.8 * warm)]))
    low = light._replace(
        to_sun=_direction(float(rng.uniform(-0.16, 0.16)), elevation),
        sun=sun,
        wet=float(rng.uniform(0.35, 1.0)),
        clouds=float(rng.uniform(0.0, 0.3)),
        haze_per_m=float(rng.uniform(3e-4, 1.5e-3)),
        exposure=float(light.exposure * rng.uniform(0.9, 2.0)),
    )
    return LaneLight(
        low, 'clear', glare=(float(rng.uniform(3, 8)), float(rng.uniform(0.03, 0.07)), float(rng.uniform(0.0, 0.08)))
    )


def _night(rng: np.random.Generator, scenery: Primitives) -> LaneLight:
    warm = rng.uniform(0.0, 1.0)
    lamp = np.array([1.0, 0.78 - 0.18 * warm, 0.55 - 0.4 * warm]) * np.exp(rng.uniform(np.log(6.0), np.log(60.0)))
    heads = scenery.center[are_lamp_heads(scenery)]
    if rng.random() < 0.2:
        heads = heads[:0]
    glow = rng.uniform(0.004, 0.03)
    night = NightLight(
        sky=as_triple(glow * np.array([0.8, 0.75, 0.9])),
        ambient=as_triple(rng.uniform(0.02, 0.09) * np.array([0.85, 0.9, 1.0])),
        lamp=as_triple(lamp),
        beam=float(rng.uniform(0.4, 1.6)),
        lamps=heads,
    )
    white = (1.0, 1.0, 1.0)
    even = Light(
        to_sun=(0.0, 0.0, 1.0),
        sun=(0.0, 0.0, 0.0),
        zenith=white,
        horizon=white,
        bounce=(0.3, 0.3, 0.3),
        clouds=0.0,
        haze_per_m=0.0,
        wet=0.0,
        lamps=60.0,
        exposure=float(rng.uniform(0.9, 2.2)),
        noise=float(rng.uniform(3.0, 6.0)),
        seed=int(rng.integers(1, 2**20)),
    )
    return LaneLight(even, 'night', night)


def emitted_light(solids: Primitives) -> np.ndarray:
    """Returns the linear light (N, 3) of the lamps of vehicles and streets, 0 for all other solids."""
    light = np.zeros((len(solids), 3))
    light[solids.material == HEAD_LAMP] = HEAD_RGB
    light[solids.material == TAIL_LAMP] = TAIL_RGB
    light[are_lamp_heads(solids)] = STREET_RGB
    return light


def without_lights(agent: Agent) -> Agent:
    """Returns an agent whose lamps are off."""
    solids = agent.body.solids
    lamps = np.isin(solids.material, (HEAD_LAMP, TAIL_LAMP))
    dark = Primitives(**{**vars(solids), 'material': np.where(lamps, MATTE, solids.material).astype(np.int32)})
    body = Body(agent.body.name, dark, agent.body.size_m, agent.body.rider, agent.body.worker)
    return Agent(body, agent.track, agent.speed, agent.parked)
