"""From linear light to an 8 bit image: averaging of sub-pixels, exposure, vignette, sensor noise, tone curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.noise import hash_bits

_LEVELS = 65536
_FULL_SCALE = 6.0


class SensorResponse(NamedTuple):
    """A camera's sensor: sub-pixels per pixel along each axis, exposure, strength and seed of the noise."""

    factor: int
    exposure: float
    noise: float
    seed: int


def tone_curve() -> np.ndarray:
    """Returns (65536,) float32: display value 0..255 for linear light 0..6 (filmic shoulder, then gamma 2.2)."""
    light = np.linspace(0.0, _FULL_SCALE, _LEVELS)
    return (255.0 * (1.0 - np.exp(-light)) ** (1 / 2.2)).astype(np.float32)


@kernel(parallel=True, fastmath=True)
def apply_sensor_response(light, response, curve, out):
    """Averages factor x factor cells of `light` (H f, W f, 3) into `out` (H, W, 3) uint8 BGR; see `SensorResponse`."""
    # Parallel loops take no named tuples.
    factor, exposure, noise, seed = response.factor, response.exposure, response.noise, response.seed
    height, width = out.shape[:2]
    scale = exposure / (factor * factor) * (len(curve) - 1) / 6.0
    for v in prange(height):
        for u in range(width):
            rx, ry = (u - 0.5 * width) / width, (v - 0.5 * height) / width
            fall = 1.0 - 0.45 * (rx * rx + ry * ry)
            bits = hash_bits(u, v, seed)
            grain = ((bits & 0xFF) + ((bits >> 8) & 0xFF) - 255) * (noise / 104.0)
            for c in range(3):
                total = 0.0
                for j in range(factor):
                    for i in range(factor):
                        total += light[v * factor + j, u * factor + i, c]
                level = min(int(total * scale * fall), len(curve) - 1)
                tint = (((bits >> (8 + 5 * c)) & 0x1F) - 15.5) * (noise / 18.0)
                value = curve[max(level, 0)] + grain + 0.5 * tint + 0.5
                out[v, u, 2 - c] = min(255, max(0, int(value)))
