"""Lanes of an image as a segmentation label: which slot each lane has, and the mask that is drawn of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from perception3d.checks import InputError, require_file
from perception3d.structures.lanes import IGNORED

OWN_MASK_FOLDER = 'perception3d_lane_masks'
"""Where create_data draws the masks of a data set that has no place for them."""
# The lowest part of a lane says where it meets the bottom of the image: so many pixels of height, and points at least.
_FOOT_PX, _FOOT_POINTS = 80.0, 4
# cv2 draws a line that goes on for much longer than this pixels off its place, and cannot count beyond 2**31.
_FAR_PX = 10_000.0


def assign_slots(
    lanes: Sequence[np.ndarray], num_slots: int, stored_hw: tuple[int, int], exist: Sequence[int] | None = None
) -> np.ndarray:
    """Returns the slot (N,) int64 of each lane, -1 for none: left to right, the middle two are borders of the ego lane.

    A lane is left of the camera if it meets the bottom of the image, extended straight, left of its middle. The nearest
    lane on the left has slot num_slots / 2 - 1, the nearest on the right the one after it, the others those beyond.
    Lanes beyond the last slot, and lanes of fewer than two different points, have none. With a single slot all others
    have that.

    The rule is ours: CULane and TuSimple give masks or lists of existing slots, and say no rule. Lanes that TuSimple's
    `list6` counts as 0 1 1 1 1 0 get the slots 1 to 4 by it.

    Args:
        lanes: (M, 2) each, x and y in pixels of the stored image.
        num_slots: even, or 1.
        stored_hw: size of the image.
        exist: (num_slots,) 0 or 1 where it is known; taken where it has as many lanes as there are: they are slots left
            to right, whatever the middle of the image.
    """
    lanes = [np.asarray(lane, np.float64).reshape(-1, 2) for lane in lanes]
    slots = np.full(len(lanes), -1, np.int64)
    drawn = [k for k, lane in enumerate(lanes) if len(lane) > 1 and (lane != lane[0]).any()]
    if num_slots == 1:
        slots[drawn] = 0
        return slots
    bottom = {k: _bottom_x(lanes[k], stored_hw[0]) for k in drawn}
    ordered = sorted(drawn, key=bottom.__getitem__)
    if exist is not None and len(ordered) == int(np.sum(exist)):
        slots[ordered] = np.flatnonzero(exist)
        return slots
    right = sum(bottom[k] < stored_hw[1] / 2 for k in ordered)
    for place, k in enumerate(ordered):
        slot = num_slots // 2 + place - right
        slots[k] = slot if 0 <= slot < num_slots else -1
    return slots


def _bottom_x(lane: np.ndarray, height: int) -> float:
    """Returns x where a lane meets the bottom row, extended by a straight line through its lowest part."""
    lane = lane[np.argsort(-lane[:, 1], kind='stable')]
    foot = lane[lane[:, 1] >= lane[0, 1] - _FOOT_PX]
    foot = lane[:_FOOT_POINTS] if len(foot) < _FOOT_POINTS else foot
    x, y = foot.mean(0)
    spread = ((foot[:, 1] - y) ** 2).sum()
    slope = ((foot[:, 0] - x) * (foot[:, 1] - y)).sum() / spread if spread else 0.0
    return float(x + slope * (height - y))


def draw_lane_mask(
    lanes: Sequence[np.ndarray], slots: Sequence[int] | np.ndarray, stored_hw: tuple[int, int], width_px: int
) -> np.ndarray:
    """Returns the mask (H, W) uint8 of polylines `width_px` wide: 0 background, 1 + slot, 255 where a lane has no slot.

    A lane of no slot is one that the network cannot say: it counts neither as a lane nor as background. Lanes of slots
    lie above it. Lanes of fewer than two points are not drawn. Points may lie outside the image.
    """
    mask = np.zeros(stored_hw, np.uint8)
    for k in sorted(range(len(lanes)), key=lambda k: slots[k] >= 0):
        if len(lanes[k]) > 1:
            value = int(slots[k]) + 1 if slots[k] >= 0 else IGNORED
            parts = _near_parts(np.asarray(lanes[k], np.float64), stored_hw)
            cv2.polylines(mask, [np.rint(part).astype(np.int32) for part in parts], False, [value], width_px)
    return mask


def _near_parts(lane: np.ndarray, stored_hw: tuple[int, int]) -> list[np.ndarray]:
    """Returns the polyline (M, 2), or where it goes on far beyond the image, its straight pieces, cut there."""
    low, high = np.full(2, -_FAR_PX), np.array(stored_hw[::-1]) + _FAR_PX
    if ((lane >= low) & (lane <= high)).all():
        return [lane]
    start, move = lane[:-1], np.diff(lane, axis=0)
    # Shares of each piece at which it crosses the four sides; one along an axis crosses two of them never.
    with np.errstate(divide='ignore', invalid='ignore'):
        shares = np.sort([(low - start) / move, (high - start) / move], axis=0)
    enter, leave = np.maximum(shares[0].max(1), 0), np.minimum(shares[1].min(1), 1)
    near = np.flatnonzero(enter <= leave)
    return [np.stack([start[k] + enter[k] * move[k], start[k] + leave[k] * move[k]]) for k in near]


def is_seen(lane: np.ndarray, stored_hw: tuple[int, int], width_px: int) -> bool:
    """Returns whether a lane (M, 2) that is drawn `width_px` wide has a pixel in the image."""
    if len(lane) < 2:
        return False
    pixels = np.rint(lane)
    inside = (pixels >= 0) & (pixels < stored_hw[::-1])
    return bool(inside.all(1).any() or draw_lane_mask([lane], [0], stored_hw, width_px).any())


def existing_slots(mask: np.ndarray, num_slots: int) -> list[int]:
    """Returns for each slot whether a mask has a pixel of it, 0 or 1."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return [int(counts[slot + 1] > 0) for slot in range(num_slots)]


def read_lane_mask(path: str | Path, stored_hw: tuple[int, int], num_slots: int) -> np.ndarray:
    """Returns the mask (H, W) uint8 of a PNG.

    Raises:
        InputError: the file is missing or damaged, has another size than its image, several channels, or a value that
            is neither 0 to num_slots nor 255.
    """
    stored = np.fromfile(require_file(path, 'run tools/create_data.py again, which draws it'), np.uint8)
    mask = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) if stored.size else None
    if mask is None:
        raise InputError(f'{path} does not decode as an image: it is damaged, copy or draw it again')
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise InputError(f'{path} is an image of {mask.shape} {mask.dtype}: expected one channel of 8 bits, the slots')
    if mask.shape != tuple(stored_hw):
        found, wanted = ('x'.join(map(str, hw[::-1])) for hw in (mask.shape, stored_hw))
        raise InputError(f'{path} is a mask of {found} pixels, but its image has {wanted}: draw the masks again')
    counts = np.ravel(cv2.calcHist([mask], [0], None, [256], [0, 256]))
    wrong = np.flatnonzero(counts[num_slots + 1 : IGNORED])
    if len(wrong):
        raise InputError(
            f'{path} has the value {num_slots + 1 + wrong[0]}: expected 0 for background, 1 to {num_slots} for the '
            f'slots of lanes, or {IGNORED} for ignored pixels'
        )
    return mask
