"""Driving in lanes: each driver follows the one ahead and stops at closed lines.

The intelligent driver model: M. Treiber, A. Hennecke, D. Helbing, "Congested traffic states in empirical observations
and microscopic simulations", Physical Review E 62 (2000), equations 1 to 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

ACCELERATION, BRAKING, HEADWAY_S, GAP_M, HARDEST = 1.4, 2.0, 1.2, 2.2, 7.0


@dataclass(frozen=True)
class Closure:
    """A stop line at `q` metres of a lane that is closed from start_s until end_s."""

    q: float
    start_s: float
    end_s: float


@dataclass
class Driver:
    """A vehicle in a lane: q runs along the direction of travel, metres; `tow` is the length of a trailer behind it."""

    lane: int
    q: float
    speed: float
    desired: float
    length: float
    tow: float = 0.0
    closures: list[Closure] = field(default_factory=list)


def acceleration(speed: float, desired: float, gap: float, approach: float) -> float:
    """Returns the model's acceleration in m/s^2 for a gap in metres to something that closes in at `approach` m/s."""
    wanted = GAP_M + max(0.0, speed * HEADWAY_S + speed * approach / (2 * np.sqrt(ACCELERATION * BRAKING)))
    free = 1 - (speed / max(desired, 0.1)) ** 4
    return float(np.clip(ACCELERATION * (free - (wanted / max(gap, 0.1)) ** 2), -HARDEST, ACCELERATION))


def _can_stop(speed: float, gap: float) -> bool:
    return gap > speed * speed / (2 * 4.5)


def _ahead(driver: Driver, leader: Driver | None, time_s: float) -> list[tuple[float, float]]:
    """Gaps to and speeds of whatever the driver must not hit."""
    obstacles = []
    if leader is not None:
        obstacles.append((leader.q - leader.length / 2 - leader.tow - driver.q - driver.length / 2, leader.speed))
    for closure in driver.closures:
        gap = closure.q - driver.q - driver.length / 2
        if closure.start_s <= time_s < closure.end_s and gap > 0 and _can_stop(driver.speed, gap):
            obstacles.append((gap + GAP_M - 0.6, 0.0))
    return obstacles


def settle(drivers: list[Driver], order: list[list[int]], time_s: float) -> None:
    """Lowers starting speeds, front to back, so that every driver can brake in time."""
    for lane in order:
        leader = None
        for index in lane:
            driver = drivers[index]
            for closure in driver.closures:
                room = closure.q - driver.q - driver.length / 2
                if closure.start_s <= time_s < closure.end_s and room > 0:
                    driver.speed = min(driver.speed, np.sqrt(2 * 1.5 * room))
            if leader is not None:
                gap = max(0.0, leader.q - leader.length / 2 - leader.tow - driver.q - driver.length / 2 - GAP_M)
                driver.speed = min(driver.speed, np.sqrt(leader.speed**2 + 2 * 1.5 * gap))
            leader = driver


def drive(drivers: list[Driver], start_s: float, step_s: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Moves all drivers; returns positions q (D, steps) in metres and speeds (D, steps) in m/s.

    Starts at `start_s` with the drivers' own q and speed; drivers do not overtake.
    """
    lanes = sorted({d.lane for d in drivers})
    order = [sorted((i for i, d in enumerate(drivers) if d.lane == n), key=lambda i: -drivers[i].q) for n in lanes]
    settle(drivers, order, start_s)
    places, speeds = np.zeros((len(drivers), steps)), np.zeros((len(drivers), steps))
    for k in range(steps):
        places[:, k] = [d.q for d in drivers]
        speeds[:, k] = [d.speed for d in drivers]
        wanted = np.zeros(len(drivers))
        for lane in order:
            leader = None
            for index in lane:
                driver = drivers[index]
                options = [acceleration(driver.speed, driver.desired, 1e4, 0.0)]
                for gap, speed in _ahead(driver, leader, start_s + k * step_s):
                    options.append(acceleration(driver.speed, driver.desired, gap, driver.speed - speed))
                wanted[index] = min(options)
                leader = driver
        for driver, change in zip(drivers, wanted, strict=True):
            after = max(0.0, driver.speed + change * step_s)
            driver.q += 0.5 * (driver.speed + after) * step_s
            driver.speed = after
    return places, speeds
