"""Augmentation with single objects: pasting from the ground-truth database, and moving the objects of a frame.

Both do what mmdet3d's ObjectSample and ObjectNoise do (SECOND, Sensors 2018, section 3.2) with exact collision tests,
and several times faster. mmdet3d's own sampler also fails under numpy 1.24 to 1.26, which have no np.long.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.datasets.transforms import ObjectSample
from mmdet3d.structures.points import BasePoints, LiDARPoints
from mmengine.logging import print_log
from numba import njit

from perception3d.checks import InputError, unknown_name
from perception3d.datasets.ground_truth_database import INFO_FILE
from perception3d.datasets.point_clouds import read_cloud
from perception3d.files import read_pickle
from perception3d.geometry.iou import bev_overlap, prepare_flat
from perception3d.geometry.overlap import overlap_area
from perception3d.ops.inside_boxes import rows_in_boxes
from perception3d.registry import TRANSFORMS

_BEV = [0, 1, 3, 4, 6]
# From here on numpy's choice, which shuffles the numbers of all objects, takes milliseconds: nuScenes has 300,000 cars.
_MANY_OBJECTS = 50_000


def free_places(boxes: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns a mask (K,) of the candidates (K, 7) that overlap neither `boxes` (M, 7) nor an earlier free candidate.

    Overlap is that of the rectangles in the bird's-eye view, exact; further numbers of a box do not count.
    """
    flat = candidates[:, _BEV]
    taken = (bev_overlap(flat, boxes[:, _BEV]) > 0).any(1)
    meets = bev_overlap(flat, flat) > 0
    free = np.zeros(len(candidates), bool)
    for k in range(len(candidates)):
        free[k] = not taken[k] and not (meets[k] & free).any()
    return free


@TRANSFORMS.register_module()
class GroundTruthSampler:
    """Draws objects of the database that fit into a frame; the `db_sampler` of PasteObjects.

    A draw depends on numpy's global state alone, so that a resumed run is exact (mmdet3d's sampler walks through
    a shuffled list, whose place a restart forgets). What does not fit is left out, so that a frame can end with fewer
    objects. Points are kept in memory once they were read, up to `memory_mib`.

    Args:
        data_root: the folder that holds the database.
        classes: names of all classes, in the order of the labels.
        sample_groups: class -> objects that a frame should have, those that it has already included.
        min_points: class -> points that an object needs to be drawn.
        removed_difficulty: difficulties that are not drawn; -1 is what KITTI does not count.
        load_dim: floats a point in the database.
        use_dim: how many of them to keep.
        info_file: table of the database, relative to data_root.
        made_by: the words after `tools/create_data.py` that write the database, for the error of a missing one.
        memory_mib: what the kept points may take in each process that loads data; objects beyond it are read again.

    Raises:
        InputError: the table is missing, or a class of sample_groups or min_points is not one of `classes`.
    """

    def __init__(
        self,
        data_root: str,
        classes: Sequence[str],
        sample_groups: Mapping[str, int],
        min_points: Mapping[str, int] | None = None,
        removed_difficulty: Sequence[int] = (-1,),
        load_dim: int = 4,
        use_dim: int = 4,
        info_file: str = INFO_FILE,
        made_by: str = 'kitti (or custom-boxes)',
        memory_mib: float = 1024.0,
    ) -> None:
        self.data_root, self.classes = Path(data_root), tuple(classes)
        self.sample_groups = dict(sample_groups)
        self.load_dim, self.use_dim = load_dim, use_dim
        self._points: dict[str, np.ndarray] = {}
        self._free_bytes = memory_mib * 2**20
        least = dict(min_points or {})
        for name in (*self.sample_groups, *least):
            if name not in self.classes:
                raise unknown_name('class of the ground-truth sampler', name, self.classes)
        hint = f'run: python tools/create_data.py {made_by} --root {data_root}'
        table = read_pickle(self.data_root / info_file, hint)
        self.objects: dict[str, list[dict[str, Any]]] = {}
        for name in self.sample_groups:
            self.objects[name] = [
                entry
                for entry in table.get(name, ())
                if entry['difficulty'] not in removed_difficulty and entry['num_points_in_gt'] >= least.get(name, 1)
            ]
            if not self.objects[name]:
                print_log(f'no {name} in {self.data_root / info_file} can be pasted', 'current', logging.WARNING)

    def sample_all(
        self, gt_bboxes: np.ndarray, gt_labels: np.ndarray, img: None = None, ground_plane: np.ndarray | None = None
    ) -> dict[str, Any] | None:
        """Returns objects for a frame with boxes (M, 7 or 9) and labels (M,), as mmdet3d's ObjectSample wants them.

        Keys: gt_bboxes_3d (K, 7 or 9, as the frame's) float32, gt_labels_3d (K,), points (LiDARPoints); None if there
        are none. Velocities are those of the database.
        """
        taken, chosen, labels = np.asarray(gt_bboxes), [], []
        for name, wanted in self.sample_groups.items():
            label = self.classes.index(name)
            drawn = self._draw(name, wanted - int(np.sum(np.asarray(gt_labels) == label)))
            if not drawn:
                continue
            boxes = np.stack([entry['box3d_lidar'] for entry in drawn])[:, : taken.shape[1]]
            if boxes.shape[1] < taken.shape[1]:
                raise InputError(
                    f'boxes of the database in {self.data_root} have {boxes.shape[1]} numbers, those of the frame '
                    f'{taken.shape[1]}: create the database again, with velocities, or load the frame without them'
                )
            free = np.flatnonzero(free_places(taken, boxes))
            taken = np.concatenate([taken, boxes[free]])
            chosen += [drawn[k] for k in free]
            labels += [label] * len(free)
        if not chosen:
            return None
        boxes = taken[len(gt_bboxes) :].astype(np.float32)
        points = np.concatenate([self._placed(entry) for entry in chosen])[:, : self.use_dim]
        if ground_plane is not None:
            # The bottom goes to the plane a*x + b*y + c*z + d = 0 at the box's place, c being about 1.
            lift = boxes[:, :3] @ np.asarray(ground_plane[:3], np.float32) + np.float32(ground_plane[3])
            boxes[:, 2] -= lift
            points[:, 2] -= np.repeat(lift, [entry['num_points_in_gt'] for entry in chosen])
        return {
            'gt_bboxes_3d': boxes,
            'gt_labels_3d': np.array(labels, np.int64),
            'points': LiDARPoints(points, points_dim=points.shape[1]),
        }

    def _draw(self, name: str, count: int) -> list[dict[str, Any]]:
        """Returns up to `count` different objects of a class, all equally likely."""
        objects = self.objects[name]
        count = min(count, len(objects))
        if count < 1:
            return []
        if len(objects) < _MANY_OBJECTS:
            return [objects[k] for k in np.random.choice(len(objects), count, replace=False)]
        rows: dict[int, None] = {}
        while len(rows) < count:
            rows[np.random.randint(len(objects))] = None
        return [objects[k] for k in rows]

    def _placed(self, entry: dict[str, Any]) -> np.ndarray:
        """Returns the points of an object at the place that it had in its own frame."""
        path = entry['path']
        points = self._points.get(path)
        if points is None:
            points = read_cloud(self.data_root / path, self.load_dim)
            if len(points) != entry['num_points_in_gt']:
                raise InputError(
                    f'{self.data_root / path} has {len(points)} points, its table says {entry["num_points_in_gt"]}: '
                    'create the database again'
                )
            if points.nbytes <= self._free_bytes:
                self._points[path] = points
                self._free_bytes -= points.nbytes
        points = points.copy()
        points[:, :3] += entry['box3d_lidar'][:3]
        return points


@TRANSFORMS.register_module()
class PasteObjects(ObjectSample):
    """mmdet3d's ObjectSample with GroundTruthSampler: adds objects of the database, and their points, to a frame.

    Points of the frame inside a pasted box are removed. DisableObjectSampleHook ends the pasting for the last epochs
    (the fading strategy of PointAugmenting, CVPR 2021), as it does for ObjectSample.

    Args:
        db_sampler: arguments of GroundTruthSampler.
        use_ground_plane: put the objects on the `plane` of the frame.
    """

    image_mismatch = 'pasted'
    """Which boxes no longer fit the camera image, which stays as stored; for titles of pictures."""

    def __init__(self, db_sampler: dict[str, Any], use_ground_plane: bool = False) -> None:
        super().__init__({'type': GroundTruthSampler, **db_sampler}, use_ground_plane=use_ground_plane)

    @staticmethod
    def remove_points_in_boxes(points: BasePoints, boxes: np.ndarray) -> BasePoints:
        """Returns the points outside all boxes (K, 7 or 9)."""
        keep = np.ones(len(points), bool)
        keep[np.concatenate(rows_in_boxes(points.tensor.numpy(), boxes[:, :7]))] = False
        return points[keep]


@njit(cache=True)
def _choose_moves(rows: np.ndarray, shifts: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """For each box the first try (column of `shifts` (M, T, 3), `turns` (M, T)) that meets no other box, or -1.

    rows (M, 10): the boxes as of `prepare_flat`; they move as their tries are chosen.
    """
    chosen = np.full(len(rows), -1)
    poly, spare = np.empty((12, 2)), np.empty((12, 2))
    for k in range(len(rows)):
        for t in range(turns.shape[1]):
            moved = rows[k].copy()
            moved[0] += shifts[k, t, 0]
            moved[1] += shifts[k, t, 1]
            cos, sin = np.cos(turns[k, t]), np.sin(turns[k, t])
            moved[4] = rows[k, 4] * cos - rows[k, 5] * sin
            moved[5] = rows[k, 5] * cos + rows[k, 4] * sin
            free = True
            for j in range(len(rows)):
                if j != k and overlap_area(moved, rows[j], poly, spare) > 0.0:
                    free = False
                    break
            if free:
                rows[k] = moved
                chosen[k] = t
                break
    return chosen


@TRANSFORMS.register_module()
class MoveObjects(BaseTransform):
    """Moves and rotates every object of a frame with its points, where it then meets no other (as ObjectNoise).

    An object for which no try is free stays where it is.

    Args:
        translation_std_m: standard deviations of the shift in x, y, z.
        rot_range_rad: range of the rotation about the middle of the box.
        num_try: tries for each object.
    """

    image_mismatch = 'moved'
    """Which boxes no longer fit the camera image, which stays as stored; for titles of pictures."""

    def __init__(
        self,
        translation_std_m: Sequence[float] = (1.0, 1.0, 0.5),
        rot_range_rad: Sequence[float] = (-0.78539816, 0.78539816),
        num_try: int = 100,
    ) -> None:
        self.translation_std_m, self.rot_range_rad = tuple(translation_std_m), tuple(rot_range_rad)
        self.num_try = num_try

    def transform(self, results: dict) -> dict:
        """Changes `points` and `gt_bboxes_3d`."""
        boxes = results['gt_bboxes_3d'].tensor.numpy().astype(np.float64)
        points = results['points'].tensor.numpy()
        count = len(boxes)
        shifts = np.random.normal(scale=self.translation_std_m, size=(count, self.num_try, 3))
        lowest, highest = self.rot_range_rad
        turns = np.random.uniform(lowest, highest, size=(count, self.num_try))
        chosen = _choose_moves(prepare_flat(boxes[:, _BEV]), shifts, turns)
        moved = boxes.copy()
        owned = np.zeros(len(points), bool)
        for k, rows in enumerate(rows_in_boxes(points, boxes[:, :7])):
            # A point in two boxes goes with the first.
            rows = rows[~owned[rows]]
            owned[rows] = True
            if chosen[k] < 0:
                continue
            shift, turn = shifts[k, chosen[k]], turns[k, chosen[k]]
            moved[k, :3] += shift
            moved[k, 6] += turn
            cos, sin = np.cos(turn), np.sin(turn)
            rotation = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
            points[rows, :3] = (points[rows, :3] - boxes[k, :3]) @ rotation + moved[k, :3]
            if boxes.shape[1] > 7:
                # The velocity follows the heading.
                moved[k, 7:9] = boxes[k, 7:9] @ rotation[:2, :2]
        results['gt_bboxes_3d'] = results['gt_bboxes_3d'].new_box(moved.astype(np.float32))
        return results
