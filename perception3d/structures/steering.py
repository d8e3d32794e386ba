"""The steering angle at the time of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from perception3d.structures.base import Structure
from perception3d.structures.primitives import Lines, Primitive, StructureStyle, Style, Texts
from perception3d.structures.views import CameraView

# A straight road and a sharp bend differ by few degrees, so a picture shows a multiple of the angle, up to its limit.
_SHOWN, _LIMIT_RAD = 5.0, math.radians(80)
# Of the height of the image.
_LENGTH = 0.3


@dataclass(frozen=True)
class SteeringAngle(Structure):
    """A steering angle.

    Attributes:
        angle_rad: to the left above 0; NaN, as of a network that diverged, is not drawn.
        camera: in whose image it is drawn; None: the only one.
    """

    name: ClassVar[str] = 'steering'
    angle_rad: float
    camera: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'classes', tuple(self.classes) or (self.name,))

    @property
    def words(self) -> str:
        """The angle as a picture names it."""
        degrees = math.degrees(self.angle_rad)
        side = 'left' if degrees > 0 else 'right'
        return f'{abs(degrees):.1f} deg {side}'

    @property
    def has_scores(self) -> bool:
        """An angle has no score."""
        return False

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns a line from the middle of the lower border, which leans by five times the angle, and the angle.

        The text of the truth, which is dashed, is right of the line, that of a prediction left of it.
        """
        if not view.shows(self.camera) or not math.isfinite(self.angle_rad):
            return []
        leaning = float(np.clip(_SHOWN * self.angle_rad, -_LIMIT_RAD, _LIMIT_RAD))
        length = _LENGTH * view.height_px
        foot = np.array([view.width_px / 2, view.height_px - 1.0])
        # Pixels count to the right and down, angles to the left.
        tip = foot - length * np.array([math.sin(leaning), math.cos(leaning)])
        label = np.zeros(1, np.int64)
        size = 12 * view.scale
        beside = 1.5 * size if style.dash_px is not None else -13 * size
        look = Style(thickness_px=max(2, 2 * style.thickness_px), dash_px=style.dash_px, halo=True)
        return [
            Lines(label, self.classes, np.stack([foot, tip])[None], style=look),
            Texts(
                label, self.classes, np.array([[foot[0] + beside, foot[1] - 2.5 * size]]), (self.words,),
                style=Style(text_px=size, plate=0.6),
            ),
        ]  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Returns the angle in radians and degrees, None where it is not finite."""
        known = self.angle_rad if math.isfinite(self.angle_rad) else None
        return {self.name: {'angle_rad': known, 'angle_deg': None if known is None else math.degrees(known)}}
