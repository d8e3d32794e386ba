"""Views of one cloud for test-time augmentation, and the limit of voxels for training."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from perception3d.checks import InputError, unknown_name
from perception3d.registry import TRANSFORMS

_FLIPS: dict[str, tuple[str, ...]] = {'none': (), 'y': ('HF',), 'x': ('VF',), 'xy': ('HF', 'VF')}
_DIRECTIONS = {'HF': 'horizontal', 'VF': 'vertical'}


@TRANSFORMS.register_module()
class PointViews(BaseTransform):
    """Turns a loaded cloud into mirrored, rotated and scaled views, for `tools/test.py --tta`.

    The views are the grid flips x yaws x scales, or some of it: mmdet3d averages 4 x 3 x 3 = 36 views, the default.
    Each is made from the cloud as it was loaded (the released code of PVD changes one array in place, so that its
    rotations and flips add up), with its points in order. Which views there are depends on `seed` alone: all frames and
    all processes have the same ones. A point keeps its place, so that predictions of views can be averaged.

    The result has lists, as of mmcv's TestTimeAug. Only the first view has the labels for the metric.

    Args:
        pack: the steps for each view, the last one packs.
        flips: 'none', 'x' (mirrors x), 'y', 'xy'.
        yaws_rad: rotations about z.
        scales: factors of x, y, z.
        num_views: how many of the grid, or None for all; the first is the cloud as it is, where the grid has it, the
            others are drawn by `seed`.
        seed: of that draw.

    Raises:
        InputError: a flip is unknown, or `num_views` is not in 1..size of the grid.
    """

    def __init__(
        self,
        pack: Sequence[Any],
        flips: Sequence[str] = ('none', 'x', 'y', 'xy'),
        yaws_rad: Sequence[float] = (0.0, np.pi / 4, -np.pi / 4),
        scales: Sequence[float] = (1.0, 0.95, 1.05),
        num_views: int | None = None,
        seed: int = 0,
    ) -> None:
        for flip in flips:
            if flip not in _FLIPS:
                raise unknown_name('flip', flip, tuple(_FLIPS))
        grid = list(itertools.product(flips, map(float, yaws_rad), map(float, scales)))
        # Stable: the cloud as it is comes first.
        grid.sort(key=lambda view: view != ('none', 0.0, 1.0))
        if num_views is not None:
            if not 1 <= num_views <= len(grid):
                raise InputError(f'num_views is {num_views}: expected 1 to {len(grid)}, flips x yaws x scales')
            others = np.random.default_rng(seed).permutation(np.arange(1, len(grid)))
            grid = [grid[k] for k in (0, *others[: num_views - 1])]
        self.views = grid
        self.pack = Compose(list(pack))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Returns `inputs` and `data_samples`, a list each with an entry for each view."""
        packed = [self.pack(self._view(results, number)) for number in range(len(self.views))]
        return {key: [view[key] for view in packed] for key in packed[0]}

    def _view(self, results: dict[str, Any], number: int) -> dict[str, Any]:
        flip, yaw_rad, scale = self.views[number]
        view = {key: value for key, value in results.items() if key != 'points'}
        if number:
            view.pop('eval_ann_info', None)
        view = copy.deepcopy(view)
        points = results['points'].clone()
        for step in _FLIPS[flip]:
            points.flip(_DIRECTIONS[step])
        points.rotate(yaw_rad)
        points.scale(scale)
        view.update(
            points=points,
            pcd_rotation_angle=yaw_rad,
            pcd_scale_factor=scale,
            transformation_3d_flow=[*_FLIPS[flip], 'R', 'S'],
        )
        return view


@TRANSFORMS.register_module()
class SampleVoxels(BaseTransform):
    """Keeps the points of up to `max_voxels` voxels, drawn at random, as SPVNAS trains: 80,000 of 5 cm.

    It stands behind all that moves points, in a training only. What is dropped is drawn from numpy's global state.

    Args:
        max_voxels: how many voxels of a cloud stay.
        voxel_size_m: edge of a voxel.
    """

    def __init__(self, max_voxels: int = 80_000, voxel_size_m: float = 0.05) -> None:
        self.max_voxels, self.voxel_size_m = max_voxels, voxel_size_m

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Filters `points` and their labels."""
        cells = np.round(results['points'].tensor[:, :3].numpy() / self.voxel_size_m).astype(np.int64)
        if len(cells) <= self.max_voxels:
            return results
        cells -= cells.min(0)
        _, voxel_of = np.unique(np.ravel_multi_index(tuple(cells.T), tuple(cells.max(0) + 1)), return_inverse=True)
        count = int(voxel_of.max()) + 1
        if count <= self.max_voxels:
            return results
        kept = np.zeros(count, bool)
        kept[np.random.choice(count, self.max_voxels, replace=False)] = True
        rows = np.flatnonzero(kept[voxel_of])
        results['points'] = results['points'][rows]
        for key in ('pts_semantic_mask', 'pts_instance_mask'):
            if key in results:
                results[key] = results[key][rows]
        results.pop('num_scored_points', None)
        return results
