"""Light, weather and colours of a scene."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.render.ground import GroundColors
from perception3d.simulation.render.shade import Light, as_triple

_TERRAIN = np.array(
    [(0.10, 0.15, 0.05), (0.14, 0.16, 0.07), (0.20, 0.17, 0.12), (0.24, 0.23, 0.21), (0.08, 0.11, 0.04)]
)


def draw_light(rng: np.random.Generator) -> tuple[Light, str]:
    """Draws light and air; returns them with a word for the description: clear, cloudy, haze, rain or dusk."""
    weather = str(rng.choice(['clear', 'cloudy', 'haze', 'rain', 'dusk'], p=[0.42, 0.22, 0.12, 0.12, 0.12]))
    elevation = np.deg2rad(rng.uniform(22, 72) if weather != 'dusk' else rng.uniform(7, 16))
    azimuth = rng.uniform(-np.pi, np.pi)
    to_sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    strength = {'clear': 3.2, 'cloudy': 0.7, 'haze': 1.5, 'rain': 0.22, 'dusk': 1.2}[weather] * rng.uniform(0.8, 1.15)
    sun = strength * np.array([1.0, 0.95, 0.86]) * ([1.0, 0.62, 0.36] if weather == 'dusk' else [1.0, 1.0, 1.0])
    zenith = np.array([0.22, 0.42, 0.85]) if weather in ('clear', 'dusk') else np.array([0.62, 0.66, 0.72])
    horizon = np.array([0.75, 0.82, 0.92]) if weather in ('clear', 'dusk') else np.array([0.82, 0.83, 0.84])
    level = {'clear': 0.75, 'cloudy': 1.0, 'haze': 0.95, 'rain': 0.7, 'dusk': 0.35}[weather] * rng.uniform(0.85, 1.15)
    if weather == 'dusk':
        horizon = horizon * [1.15, 0.85, 0.7]
    haze = {'clear': 4e-4, 'cloudy': 8e-4, 'haze': rng.uniform(3e-3, 7e-3), 'rain': 3e-3, 'dusk': 8e-4}[weather]
    ground_light = to_sun[2] * strength + level
    light = Light(
        to_sun=as_triple(to_sun),
        sun=as_triple(sun),
        zenith=as_triple(zenith * level),
        horizon=as_triple(horizon * level),
        bounce=as_triple(0.22 * (horizon * level + to_sun[2] * sun)),
        clouds=float({'clear': rng.uniform(0, 0.5), 'cloudy': 0.9, 'haze': 0.4, 'rain': 1.0, 'dusk': 0.4}[weather]),
        haze_per_m=float(haze),
        wet=float(rng.uniform(0.5, 1.0) if weather == 'rain' else 0.0),
        lamps=float({'dusk': 1.6, 'rain': 0.7}.get(weather, 0.0)),
        exposure=float(
            2.3 / ground_light * rng.uniform(0.8, 1.25) * {'dusk': 0.65, 'rain': 0.58, 'cloudy': 0.85}.get(weather, 1.0)
        ),
        noise=float(rng.uniform(1.0, 2.5) + (1.5 if weather in ('dusk', 'rain') else 0.0)),
        seed=int(rng.integers(1, 2**20)),
    )
    return light, weather


def draw_ground_colors(rng: np.random.Generator, seed: int) -> GroundColors:
    """Draws the colours of the ground."""
    terrain = _TERRAIN[rng.integers(len(_TERRAIN))] * rng.uniform(0.8, 1.2)
    sidewalk = rng.uniform(0.22, 0.42) * np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.78, 0.98)])
    curb = np.full(3, rng.uniform(0.35, 0.6))
    asphalt = rng.uniform(0.07, 0.2) * np.array([1.0, 1.0, rng.uniform(0.97, 1.1)])
    band = 2.0 if rng.random() < 0.3 else 0.0
    return GroundColors(as_triple(terrain), as_triple(sidewalk), as_triple(curb), as_triple(asphalt), band, seed)
