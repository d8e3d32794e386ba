"""Pasting groups of people: neighbours of one frame of the ground-truth database, with their distances.

Our proposal. Single people, as `GroundTruthSampler` draws them, would thin out the groups that detectors of crowds have
to part.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from mmdet3d.structures.points import LiDARPoints

from perception3d.checks import InputError
from perception3d.datasets.transforms.lidar_augment import GroundTruthSampler, free_places
from perception3d.registry import TRANSFORMS


@TRANSFORMS.register_module()
class GroupSampler(GroundTruthSampler):
    """Draws groups of one class from the database that fit into a frame; a `db_sampler` of PasteObjects.

    A group is a person drawn at random and the nearest others of the same frame within `reach_m`, up to a size drawn
    from 1 to `most`. It keeps its distance from the LiDAR, and so its density of points, and is turned about the LiDAR
    by a random angle. A place is taken where no member overlaps a box of the frame or of an earlier group, and none is
    in line with one: neither hides the other. Other things that hide people are not known. A group without such a place
    in `tries` tries is left out.

    Args:
        data_root: the folder that holds the database.
        classes: names of all classes, in the order of the labels.
        sample_groups: class -> GROUPS that are tried for a frame.
        most: people of the largest group.
        reach_m: from the first one, in the bird's-eye view.
        half_angle_rad: a group stays within this angle to either side of the x axis: the sector that is labelled.
        tries: places for each group.
        kwargs: as of GroundTruthSampler.

    Raises:
        InputError: as of GroundTruthSampler, or a number is out of its range.
    """

    def __init__(
        self,
        data_root: str,
        classes: Any,
        sample_groups: Any,
        most: int = 4,
        reach_m: float = 1.5,
        half_angle_rad: float = math.pi / 2,
        tries: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_root, classes, sample_groups, **kwargs)
        if most < 1 or tries < 1 or reach_m <= 0 or not 0 < half_angle_rad <= math.pi:
            raise InputError(
                f'GroupSampler: most {most}, tries {tries}, reach_m {reach_m}, half_angle_rad {half_angle_rad}: '
                'expected 1 or more, more than 0 m, and an angle above 0 up to pi'
            )
        self.most, self.reach_m, self.half_angle_rad, self.tries = most, reach_m, half_angle_rad, tries
        self._frames: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for name, entries in self.objects.items():
            frames = self._frames.setdefault(name, {})
            for entry in entries:
                frames.setdefault(entry['image_idx'], []).append(entry)

    def sample_all(
        self,
        gt_bboxes: npt.NDArray[Any],
        gt_labels: npt.NDArray[Any],
        img: None = None,
        ground_plane: npt.NDArray[Any] | None = None,
    ) -> dict[str, Any] | None:
        """Returns the people of all groups for a frame with boxes (M, 7 or 9), as GroundTruthSampler does.

        Raises:
            InputError: the frame has a `ground_plane`, or its boxes more numbers than those of the database.
        """
        if ground_plane is not None:
            raise InputError('GroupSampler keeps the heights of its groups: set use_ground_plane=False')
        taken, clouds, labels = np.asarray(gt_bboxes, np.float64), [], []
        for name, groups in self.sample_groups.items():
            for _ in range(groups if self.objects[name] else 0):
                group = self._group(name)
                boxes = np.stack([entry['box3d_lidar'] for entry in group]).astype(np.float64)[:, : taken.shape[1]]
                if boxes.shape[1] < taken.shape[1]:
                    raise InputError(
                        f'boxes of the database in {self.data_root} have {boxes.shape[1]} numbers, those of the frame '
                        f'{taken.shape[1]}: create the database again, with velocities'
                    )
                angle = self._free_angle(boxes, taken)
                if angle is None:
                    continue
                taken = np.concatenate([taken, turned(boxes, angle)])
                points = np.concatenate([self._placed(entry) for entry in group])[:, : self.use_dim]
                points[:, :2] = points[:, :2] @ _turn(angle).T
                clouds.append(points)
                labels += [self.classes.index(name)] * len(group)
        if not clouds:
            return None
        points = np.concatenate(clouds).astype(np.float32)
        return {
            'gt_bboxes_3d': taken[len(gt_bboxes) :].astype(np.float32),
            'gt_labels_3d': np.array(labels, np.int64),
            'points': LiDARPoints(points, points_dim=points.shape[1]),
        }

    def _group(self, name: str) -> list[dict[str, Any]]:
        """Returns the entries of a group, the first one drawn at random, then the nearest others."""
        first = self.objects[name][np.random.randint(len(self.objects[name]))]
        size = np.random.randint(1, self.most + 1)
        others = self._frames[name][first['image_idx']]
        gaps = [math.dist(entry['box3d_lidar'][:2], first['box3d_lidar'][:2]) for entry in others]
        # The first one itself is at 0 m, but another one may be too.
        nearest = sorted(range(len(others)), key=lambda k: (others[k] is not first, gaps[k]))
        return [others[k] for k in nearest[:size] if gaps[k] <= self.reach_m]

    def _free_angle(self, boxes: npt.NDArray[Any], taken: npt.NDArray[Any]) -> float | None:
        """Returns an angle to which a group can be turned, None where no try is free."""
        directions = np.arctan2(boxes[:, 1], boxes[:, 0])
        # Relative to the first one, so that a group behind the LiDAR is not cut at 180 degrees.
        spread = (directions - directions[0] + math.pi) % (2 * math.pi) - math.pi
        low, high = -self.half_angle_rad - spread.min(), self.half_angle_rad - spread.max()
        for _ in range(self.tries if low <= high else 0):
            angle = float(np.random.uniform(low, high) - directions[0])
            candidates = turned(boxes, angle)
            apart = all(free_places(taken, candidates[k : k + 1])[0] for k in range(len(candidates)))
            if apart and not in_line(candidates, taken).any():
                return angle
        return None


def _turn(angle: float) -> npt.NDArray[np.float64]:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def turned(boxes: npt.NDArray[Any], angle: float) -> npt.NDArray[Any]:
    """Returns boxes (K, 7 or 9) turned about the z axis of the LiDAR by `angle`, radians; velocities with them."""
    moved = boxes.copy()
    moved[:, :2] = boxes[:, :2] @ _turn(angle).T
    moved[:, 6] = boxes[:, 6] + angle
    moved[:, 7:9] = boxes[:, 7:9] @ _turn(angle).T if boxes.shape[1] > 7 else boxes[:, 7:9]
    return moved


def in_line(boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Returns (K, M) whether boxes (K, 7 or 9) and others (M, 7 or 9) hide each other from the LiDAR at the origin.

    A box hides the directions of the circle around its rectangle.
    """
    gaps = np.arctan2(boxes[:, 1], boxes[:, 0])[:, None] - np.arctan2(others[:, 1], others[:, 0])
    gaps = abs((gaps + math.pi) % (2 * math.pi) - math.pi)
    own, their = (
        np.arcsin(np.clip(np.hypot(b[:, 3], b[:, 4]) / 2 / np.maximum(np.hypot(b[:, 0], b[:, 1]), 1e-6), 0, 1))
        for b in (boxes, others)
    )
    return np.asarray(gaps < own[:, None] + their)
