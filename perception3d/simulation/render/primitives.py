"""The solids of which all objects consist, as flat arrays that the kernels read."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from perception3d.simulation.render.surfaces import Surface

BOX, ELLIPSOID, FRUSTUM = 0, 1, 2
"""Solids in their own unit frame, each inside the cube [-1, 1]^3.

BOX: faces at +-1; with rising z the front, back and both side faces lean inwards by the three `taper` numbers at z = 1.
ELLIPSOID: the unit sphere. FRUSTUM: its axis is z, radius 1 at z = -1 and `taper[0]` at z = 1 (1 cylinder, 0 cone).
"""

SCENERY_OWNER = -1
"""Owner of the solids that belong to no agent: buildings, trees, posts."""


@dataclass(frozen=True)
class Primitives:
    """N solids in one frame (an object's own or the world's), metres.

    kind (N,) int32; center (N, 3); axes (N, 3, 3), whose columns are the unit axes; half (N, 3) half extents along
    the axes; taper (N, 3); color (N, 3) linear RGB in 0..1; material (N,) int32; owner (N,) int32 is the index of the
    agent that the solid belongs to, or -1 for the scenery; surface (N,) int32: see `Surface`. Arrays are float32 where
    not said otherwise.
    """

    kind: np.ndarray
    center: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    taper: np.ndarray
    color: np.ndarray
    material: np.ndarray
    owner: np.ndarray
    surface: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def corners(self) -> np.ndarray:
        """Returns the corners of every solid's bounding cube, (N, 8, 3)."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
        return self.center[:, None] + np.einsum('nij,nkj->nki', self.axes, signs[None] * self.half[:, None])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lowest and highest corner (3,) of the axis-aligned box around all solids, tight for each kind."""
        scaled = self.axes.astype(np.float64) * self.half[:, None, :]
        ball = np.linalg.norm(scaled, axis=2)
        disc, rise = np.linalg.norm(scaled[:, :, :2], axis=2), scaled[:, :, 2]
        top = self.taper[:, :1] * disc
        drum_up, drum_down = np.maximum(rise + top, disc - rise), np.maximum(top - rise, rise + disc)
        points = np.einsum('nij,nkj->nki', scaled, _box_corners(self.taper))
        kind = self.kind[:, None]
        up = np.where(kind == ELLIPSOID, ball, np.where(kind == FRUSTUM, drum_up, points.max(1)))
        down = np.where(kind == ELLIPSOID, ball, np.where(kind == FRUSTUM, drum_down, -points.min(1)))
        return (self.center - down).min(0), (self.center + up).max(0)

    def moved(self, offset: np.ndarray) -> Primitives:
        """Returns the solids shifted by `offset` (3,)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values['center'] = (self.center + np.asarray(offset)).astype(np.float32)
        return Primitives(**values)

    def owned_by(self, owner: int) -> Primitives:
        """Returns the solids with every owner set to `owner`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values['owner'] = np.full(len(self), owner, np.int32)
        return Primitives(**values)

    def placed(self, x: float, y: float, yaw_rad: float, z: float = 0.0) -> Primitives:
        """Returns the solids rotated by `yaw_rad` about z and then moved to (x, y, z)."""
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values['center'] = (self.center @ rotation.T + np.array([x, y, z])).astype(np.float32)
        values['axes'] = np.einsum('ij,njk->nik', rotation, self.axes).astype(np.float32)
        return Primitives(**values)


def _box_corners(taper: np.ndarray) -> np.ndarray:
    """Corners (N, 8, 3) of tapered boxes in their unit frames."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    lean = np.where(signs[:, 0] > 0, taper[:, :1], taper[:, 1:2]) * (signs[:, 2] > 0)
    side = taper[:, 2:3] * (signs[:, 2] > 0)
    return np.stack([signs[:, 0] * (1 - lean), signs[:, 1] * (1 - side), np.broadcast_to(signs[:, 2], lean.shape)], -1)


def concatenate(parts: list[Primitives]) -> Primitives:
    """Returns all solids of `parts` in one set, in order."""
    if not parts:
        return ShapeBuilder().build()
    return Primitives(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Primitives)})


@dataclass(frozen=True)
class Solid:
    """One solid: full extents `size` in metres along its own axes, linear RGB, rotation (3, 3) or None for none."""

    kind: int
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: tuple[float, float, float]
    material: int
    taper: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: np.ndarray | None = None
    surface: Surface = Surface.OBJECT

    def axes(self) -> np.ndarray:
        """Returns the unit axes as columns (3, 3)."""
        return np.eye(3) if self.rotation is None else self.rotation

    def half(self) -> np.ndarray:
        """Returns the half extents (3,), 1 mm at least."""
        return np.maximum(np.asarray(self.size, float) / 2, 1e-3)


class ShapeBuilder:
    """Collects solids in an object's frame: x forward, y left, z up, z = 0 on the ground.

    surface: what the solids that are added next are.
    """

    def __init__(self, surface: Surface = Surface.OBJECT) -> None:
        self._solids: list[Solid] = []
        self.surface = surface

    def add(self, solid: Solid) -> None:
        """Adds a solid of any kind."""
        self._solids.append(solid)

    def box(self, center, size, color, material: int, taper=(0.0, 0.0, 0.0), rotation=None) -> None:
        """Adds a box; `taper` = inward lean of front, back and sides at the top, as a share of the half extent."""
        self.add(Solid(BOX, center, size, color, material, taper, rotation, self.surface))

    def ellipsoid(self, center, size, color, material: int) -> None:
        """Adds an ellipsoid."""
        self.add(Solid(ELLIPSOID, center, size, color, material, surface=self.surface))

    def cylinder(self, center, size, color, material: int, top: float = 1.0, rotation=None) -> None:
        """Adds a cylinder about its own z; its radius at the top is `top` times that at the bottom."""
        self.add(Solid(FRUSTUM, center, size, color, material, (top, 0.0, 0.0), rotation, self.surface))

    def wheel(self, center, diameter: float, width: float, color, material: int) -> None:
        """Adds a wheel: a cylinder about y."""
        self.cylinder(center, (diameter, diameter, width), color, material, 1.0, Z_TO_Y)

    def build(self, owner: int = SCENERY_OWNER) -> Primitives:
        """Returns the solids as arrays."""
        solids, count = self._solids, len(self._solids)

        def array(values: list, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return np.array(values, dtype).reshape((count, *shape))

        return Primitives(
            kind=array([solid.kind for solid in solids], (), np.int32),
            center=array([solid.center for solid in solids], (3,), np.float32),
            axes=array([solid.axes() for solid in solids], (3, 3), np.float32),
            half=array([solid.half() for solid in solids], (3,), np.float32),
            taper=array([solid.taper for solid in solids], (3,), np.float32),
            color=array([solid.color for solid in solids], (3,), np.float32),
            material=array([solid.material for solid in solids], (), np.int32),
            owner=np.full(count, owner, np.int32),
            surface=array([solid.surface for solid in solids], (), np.int32),
        )


def about_y(angle_rad: float) -> np.ndarray:
    """Returns the rotation (3, 3) about y; a positive angle tips the front (x) down."""
    # Not by scipy's Rotation, whose last digits differ: the bytes of a seed must not change.
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


Z_TO_Y = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
"""Rotates a solid's own z axis to y, for wheels."""
