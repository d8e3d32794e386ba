"""Augmentation with points of other scans: LaserMix, PolarMix, and single objects pasted onto the ground.

All three draw another labelled scan of the data set, and all that is random from numpy's global state, so that a
resumed run is exact. They stand behind the loading of points and labels, and before anything that packs. A mixed sample
has no current scan: `num_scored_points`, of several scans, is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmcv.transforms import BaseTransform
from mmdet3d.datasets.transforms import LaserMix, PolarMix
from mmdet3d.structures.points import BasePoints
from mmengine.dataset import Compose

from perception3d.checks import InputError, unknown_name
from perception3d.registry import TRANSFORMS

Array = npt.NDArray[Any]
_OBJECTS = 'pts_instance_mask'
# An object hides the ground below it, and rings of the LiDAR are this far apart.
_AROUND_M = 1.0


@TRANSFORMS.register_module()
class LaserMixScans(LaserMix):
    """LaserMix (arXiv 2207.00026): areas of inclination in turns from this scan and from another one.

    It is mmdet3d's LaserMix, which mixes points and classes; here objects are mixed too, and those of different scans
    get different numbers.

    Args:
        pre_transform: the steps that load the other scan, those of this pipeline.
        num_areas: numbers of areas, of which one is drawn.
        pitch_angles: degrees, lowest and highest inclination of the sensor: +3 and -25 of SemanticKITTI's. Points
            beyond belong to the outermost areas.
        prob: how often scans are mixed.
    """

    def __init__(
        self,
        pre_transform: Sequence[Any],
        num_areas: Sequence[int] = (3, 4, 5, 6),
        pitch_angles: Sequence[float] = (-25.0, 3.0),
        prob: float = 1.0,
    ) -> None:
        super().__init__(list(num_areas), list(pitch_angles), list(pre_transform), prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mixes, or with probability 1 - `prob` does nothing."""
        _dataset_of(results, type(self).__name__)
        return super().transform(results)

    def laser_mix_transform(self, input_dict: dict[str, Any], mix_results: dict[str, Any]) -> dict[str, Any]:
        """Mixes two loaded scans; called by mmdet3d's `transform`."""
        return _mix_with_objects(super().laser_mix_transform, input_dict, mix_results)


@TRANSFORMS.register_module()
class PolarMixScans(PolarMix):
    """PolarMix (arXiv 2208.00223): a half plane of azimuths from another scan, and its objects, also rotated twice.

    It is mmdet3d's PolarMix, with classes by name, and with objects: those of different scans, and the copies of one,
    get different numbers. Objects are pasted as in the paper, wherever they fall.

    Args:
        pre_transform: the steps that load the other scan, those of this pipeline.
        classes: names of the classes whose points are pasted.
        swap_ratio: how often the half plane is swapped.
        rotate_paste_ratio: how often points are pasted.
        prob: how often scans are mixed.
    """

    def __init__(
        self,
        pre_transform: Sequence[Any],
        classes: Sequence[str],
        swap_ratio: float = 0.5,
        rotate_paste_ratio: float = 1.0,
        prob: float = 1.0,
    ) -> None:
        if not classes and rotate_paste_ratio:
            raise InputError('PolarMixScans has no classes to paste: name some, or set rotate_paste_ratio=0')
        super().__init__([], swap_ratio, rotate_paste_ratio, list(pre_transform), prob)
        self.pasted = tuple(classes)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mixes, or with probability 1 - `prob` does nothing."""
        dataset = _dataset_of(results, type(self).__name__)
        self.instance_classes = _labels_of(self.pasted, dataset, type(self).__name__)
        return super().transform(results)

    def polar_mix_transform(self, input_dict: dict[str, Any], mix_results: dict[str, Any]) -> dict[str, Any]:
        """Mixes two loaded scans; called by mmdet3d's `transform`."""
        return _mix_with_objects(super().polar_mix_transform, input_dict, mix_results)


@TRANSFORMS.register_module()
class PasteInstances(BaseTransform):
    """Pastes objects of rare classes from other scans onto free ground (instance augmentation).

    Panoptic-PolarNet (CVPR 2021) pastes instances of the training set, drawn by class, at rotated places. The rest is
    ours: objects come from scans drawn at random, so that there is no database of them; the draw gives each class of
    these scans the same share; an object is rotated about the LiDAR, mirrored half the time, which keeps its distance
    and so its density, and it is put at the height over the ground that it had. It is left out where none of `num_try`
    places is free: ground around it, and nothing else inside its circle. Points that it would hide stay.

    Args:
        pre_transform: the steps that load another scan, those of this pipeline.
        classes: names of the classes whose objects are pasted.
        ground: names of the classes on which they may stand.
        num_scans: other scans to draw from.
        max_objects: objects pasted at most.
        min_points: points that an object needs.
        num_try: places tried for each.
        prob: how often anything is pasted.
    """

    def __init__(
        self,
        pre_transform: Sequence[Any],
        classes: Sequence[str],
        ground: Sequence[str],
        num_scans: int = 2,
        max_objects: int = 10,
        min_points: int = 20,
        num_try: int = 10,
        prob: float = 1.0,
    ) -> None:
        self.pre_transform = Compose(list(pre_transform))
        self.pasted, self.ground = tuple(classes), tuple(ground)
        self.num_scans, self.max_objects = num_scans, max_objects
        self.min_points, self.num_try, self.prob = min_points, num_try, prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds points, and their entries of `pts_semantic_mask` and `pts_instance_mask`.

        Raises:
            InputError: there is no data set to draw from, it has no objects, or not these classes.
        """
        if np.random.rand() > self.prob:
            return results
        name = type(self).__name__
        dataset = _dataset_of(results, name)
        wanted, ground = (_labels_of(names, dataset, name) for names in (self.pasted, self.ground))
        scans = [_draw_scan(dataset, self.pre_transform) for _ in range(self.num_scans)]
        for scan in scans:
            _check_columns(results, scan)
        if any(_OBJECTS not in scan for scan in (results, *scans)):
            raise InputError(f'{name} needs objects ({_OBJECTS}), which the labels of this data set do not hold')
        found = [entry for scan in scans for entry in _objects(scan, wanted, ground, self.min_points)]
        place = _FreePlaces(results, ground)
        added: list[BasePoints] = []
        labels, objects = [results['pts_semantic_mask']], [results[_OBJECTS]]
        for k in _draw_by_class([label for label, _, _ in found], self.max_objects):
            label, points, clearance_m = found[k]
            moved = place.put(points, clearance_m, self.num_try)
            if moved is not None:
                added.append(moved)
                labels.append(np.full(len(moved), label, np.int64))
                objects.append(np.full(len(moved), objects[0].max(initial=0) + len(added), np.int64))
        if added:
            results['points'] = results['points'].cat([results['points'], *added])
            results.update({'pts_semantic_mask': np.concatenate(labels), _OBJECTS: np.concatenate(objects)})
            results.pop('num_scored_points', None)
        return results


class _FreePlaces:
    """The ground of a scan and what stands on it, to which pasted objects are added."""

    def __init__(self, scan: dict[str, Any], ground: Sequence[int]) -> None:
        xyz = scan['points'].tensor[:, :3].numpy()
        on_ground = np.isin(scan['pts_semantic_mask'], ground)
        self.ground, self.others = xyz[on_ground], xyz[~on_ground]

    def put(self, points: BasePoints, clearance_m: float, num_try: int) -> BasePoints | None:
        """Returns a copy of an object at the first free place, `clearance_m` over the ground; None without any."""
        for _ in range(num_try):
            moved = points.clone()
            if np.random.rand() < 0.5:
                moved.flip('horizontal')
            moved.rotate(np.random.uniform(-np.pi, np.pi))
            xyz = moved.tensor[:, :3].numpy()
            center, radius_m = _circle(xyz)
            height_m = _ground_height_m(self.ground, center, radius_m)
            if height_m is not None and not _within(self.others, center, radius_m).any():
                moved.tensor[:, 2] += height_m + clearance_m - float(xyz[:, 2].min())
                self.others = np.concatenate([self.others, moved.tensor[:, :3].numpy()])
                return moved
        return None


def _objects(
    scan: dict[str, Any], classes: Sequence[int], ground: Sequence[int], min_points: int
) -> list[tuple[int, BasePoints, float]]:
    """Returns label, points, and metres from the ground to the lowest point of each object of some classes."""
    labels, objects = scan['pts_semantic_mask'], scan[_OBJECTS]
    own = np.isin(labels, classes) & (objects != 0)
    xyz = scan['points'].tensor[:, :3].numpy()
    floor = xyz[np.isin(labels, ground)]
    found = []
    for label, number in np.unique(np.stack([labels[own], objects[own]]), axis=1).T:
        rows = np.flatnonzero((labels == label) & (objects == number))
        if len(rows) < min_points:
            continue
        lowest_m, height_m = float(xyz[rows, 2].min()), _ground_height_m(floor, *_circle(xyz[rows]))
        found.append((int(label), scan['points'][rows], 0.0 if height_m is None else max(0.0, lowest_m - height_m)))
    return found


def _ground_height_m(ground: Array, center: Array, radius_m: float) -> float | None:
    """Returns the median height of ground points around a circle; None without any."""
    near = ground[_within(ground, center, radius_m + _AROUND_M)]
    return float(np.median(near[:, 2])) if len(near) else None


def _circle(xyz: Array) -> tuple[Array, float]:
    """Returns centre (2,) and radius of a horizontal circle around points."""
    low, high = xyz[:, :2].min(0), xyz[:, :2].max(0)
    return (low + high) / 2, float(np.hypot(*(high - low))) / 2


def _within(xyz: Array, center: Array, radius_m: float) -> Array:
    inside: Array = ((xyz[:, :2] - center) ** 2).sum(1) <= radius_m**2
    return inside


def _draw_by_class(labels: Sequence[int], most: int) -> Array:
    """Returns up to `most` places of the list, drawn so that each label has the same share."""
    if not labels:
        return np.zeros(0, np.int64)
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / counts[which]
    return np.random.choice(len(labels), min(most, len(labels)), replace=False, p=weights / weights.sum())


def _draw_scan(dataset: Any, pre_transform: Compose) -> dict[str, Any]:
    """Returns a loaded scan of the data set, any with the same probability."""
    loaded: dict[str, Any] = pre_transform(dataset.get_data_info(np.random.randint(len(dataset))))
    return loaded


def _dataset_of(results: dict[str, Any], step: str) -> Any:
    if 'dataset' not in results:
        raise InputError(
            f'{step} draws other scans, but this sample does not know its data set: use it in a training pipeline of a '
            'PointLabelDataset'
        )
    return results['dataset']


def _labels_of(names: Sequence[str], dataset: Any, step: str) -> list[int]:
    classes = tuple(dataset.metainfo['classes'])
    for name in names:
        if name not in classes:
            raise unknown_name(f'class of {step}', name, classes)
    return [classes.index(name) for name in names]


def _check_columns(results: dict[str, Any], other: dict[str, Any]) -> None:
    """Raises InputError where the points of two scans have not the same columns."""
    own, drawn = (scan['points'].tensor.shape[1] for scan in (results, other))
    if own != drawn:
        raise InputError(
            f'pre_transform loads scans with {drawn} columns, but those to mix them with have {own}: give it all steps '
            'of this pipeline that load points, such as LoadEarlierScans'
        )


def _mix_with_objects(
    mix: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]], results: dict[str, Any], other: dict[str, Any]
) -> dict[str, Any]:
    """Mixes two scans by mmdet3d's function, and the objects of their points alike.

    The function moves rows of points; a column that numbers the rows tells where each came from.
    """
    _check_columns(results, other)
    scans = (results, other)
    starts = (0, len(results['points']))
    numbered = [_with_rows(scan, start) for scan, start in zip(scans, starts)]
    mixed = mix(*numbered)
    points = mixed['points']
    if not len(points):
        # Every area came from the scan that has no points there.
        return results
    rows = points.tensor[:, -1].long().numpy()
    results['points'] = _points_like(results['points'], points.tensor[:, :-1])
    results['pts_semantic_mask'] = mixed['pts_semantic_mask']
    if all(_OBJECTS in scan for scan in scans):
        objects = np.concatenate([scan[_OBJECTS] for scan in scans])[rows]
        results[_OBJECTS] = _renumbered(objects, rows, starts[1])
    results.pop('num_scored_points', None)
    return results


def _with_rows(scan: dict[str, Any], start: int) -> dict[str, Any]:
    tensor = scan['points'].tensor
    # float32 has every whole number below 2**24: a hundred scans.
    rows = torch.arange(start, start + len(tensor), dtype=tensor.dtype)[:, None]
    return {
        'points': _points_like(scan['points'], torch.cat([tensor, rows], 1)),
        'pts_semantic_mask': scan['pts_semantic_mask'],
    }


def _points_like(points: BasePoints, tensor: torch.Tensor) -> BasePoints:
    return type(points)(tensor, points_dim=tensor.shape[1], attribute_dims=points.attribute_dims)


def _renumbered(objects: Array, rows: Array, first_of_other: int) -> Array:
    """Returns new numbers of objects (N,), 0 stays: different for each scan, and for each copy of a row."""
    renumbered = np.zeros(len(objects), np.int64)
    owned = np.flatnonzero(objects)
    order = owned[np.argsort(rows[owned], kind='stable')]
    ordered = rows[order]
    begins = np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)]
    copies = np.arange(len(ordered)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
    keys = np.stack([objects[order], ordered >= first_of_other, copies])
    _, numbers = np.unique(keys, axis=1, return_inverse=True)
    renumbered[order] = numbers.reshape(-1) + 1
    return renumbered
