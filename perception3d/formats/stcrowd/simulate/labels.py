"""The labels of a frame by the rules of STCrowd: who is labelled, how far hidden, and where in the image.

Labelled is who has 15 points or more, is in the sector of +-90 degrees and 35 m, and is a person of any height: the
converter of the data set leaves out those who sit. STCrowd does not say what its levels of occlusion are; here they are
shares of visible points, by thresholds of our own. Image and cloud are labelled independently, as in STCrowd: who is
hidden from the LiDAR may be in the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.formats.stcrowd.files import Camera, Person, PersonInImage
from perception3d.formats.stcrowd.rules import MIN_POINTS, in_sector
from perception3d.geometry.boxes import corners

LEAST_VISIBLE = (0.85, 0.5)
"""Least visible share of levels 0 and 1: points in the cloud against those of the person alone, or pixels."""
IMAGE_HW = (720, 1280)
_NEAR_M = 0.3


@dataclass(frozen=True)
class Seen:
    """What the LiDAR measures of N people of a frame.

    boxes (N, 7): middle, length, width, height, yaw in the LiDAR's frame, x forward. points (N,): in the box; share
    (N,): of the person that nothing hides, 0..1.
    """

    boxes: npt.NDArray[Any]
    points: npt.NDArray[Any]
    share: npt.NDArray[Any]


def occlusion_level(share: float) -> int:
    """Returns the level 0, 1 or 2 of a visible share."""
    return sum(share < least for least in LEAST_VISIBLE)


def label_people(seen: Seen) -> tuple[Person, ...]:
    """Returns the labelled people; an id is the number of the person in `seen`."""
    return tuple(
        Person(
            number,
            (float(box[0]), float(box[1]), float(box[2])),
            (float(box[3]), float(box[4]), float(box[5])),
            float(box[6]),
            occlusion_level(float(share)),
        )
        for number, (box, points, share) in enumerate(zip(np.round(seen.boxes, 4), seen.points, seen.share))
        if points >= MIN_POINTS and in_sector(float(box[0]), float(box[1]))
    )


def label_image(boxes: npt.NDArray[Any], pixels: npt.NDArray[Any], camera: Camera) -> tuple[PersonInImage, ...]:
    """Returns the people in an image who are labelled: in the sector, and some of them is seen.

    pixels (N, 2): how many each one would cover without all others, and how many of these are visible.
    """
    bottoms = boxes - np.array([0, 0, 0.5, 0, 0, 0, 0]) * boxes[:, 5:6]
    cam = corners(bottoms) @ camera.cam_from_lidar[:3, :3].T + camera.cam_from_lidar[:3, 3]
    image = cam @ camera.img_from_cam[:3, :3].T
    points = np.round(image[..., :2] / np.maximum(image[..., 2:], _NEAR_M), 1)
    low, high = np.clip(points.min(1), 0, IMAGE_HW[::-1]), np.clip(points.max(1), 0, IMAGE_HW[::-1])
    people = []
    for k, (covered, visible) in enumerate(pixels):
        if visible < 1 or cam[k, :, 2].min() < _NEAR_M or not in_sector(float(boxes[k, 0]), float(boxes[k, 1])):
            continue
        box = (*low[k].tolist(), *(high[k] - low[k]).round(1).tolist())
        level = occlusion_level(float(visible / covered))
        people.append(PersonInImage(k, tuple((float(x), float(y)) for x, y in points[k]), box, level))
    return tuple(people)
