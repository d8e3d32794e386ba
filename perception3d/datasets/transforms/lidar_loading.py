"""Loading of LiDAR points with the checks that bad files need, the crop to what a camera sees, and velocities."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.datasets.transforms import LoadPointsFromFile, LoadPointsFromMultiSweeps
from mmdet3d.structures.points import get_points_type

from perception3d.checks import InputError
from perception3d.datasets.point_clouds import in_image, read_cloud, read_sweep
from perception3d.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadCheckedPoints(LoadPointsFromFile):
    """mmdet3d's LoadPointsFromFile that refuses a bad file by name instead of training on it, and reads `.npy`.

    Adds `points` (LiDARPoints) of `lidar_points['lidar_path']`. A missing, truncated or empty file and NaN or infinity
    in it are InputErrors. A cloud whose entry says `may_be_empty`, as in inference, may be without points.

    Args:
        load_dim: floats per point in the file.
        use_dim: how many of them to keep, or which.
        coord_type: as of LoadPointsFromFile.
    """

    def __init__(self, load_dim: int = 4, use_dim: int | list[int] = 4, coord_type: str = 'LIDAR') -> None:
        most = use_dim if isinstance(use_dim, int) else max(use_dim) + 1
        if most > load_dim:
            raise InputError(f'use_dim {use_dim} asks for more than the load_dim {load_dim} floats of a point')
        super().__init__(coord_type=coord_type, load_dim=load_dim, use_dim=use_dim)

    def transform(self, results: dict) -> dict:
        """Adds `points`."""
        cloud = results['lidar_points']
        points = read_cloud(cloud['lidar_path'], self.load_dim, cloud.get('may_be_empty', False))[:, self.use_dim]
        results['points'] = get_points_type(self.coord_type)(points, points_dim=points.shape[1])
        return results


@TRANSFORMS.register_module()
class LoadAlignedSweeps(LoadPointsFromMultiSweeps):
    """mmdet3d's LoadPointsFromMultiSweeps that also aligns sweeps with the keyframe when the ego vehicle turns.

    `lidar2sensor` takes points of the keyframe to the sweep: y = R x + t. mmdet3d 1.4 computes R^T y - t where
    x = R^T (y - t) is wanted (its pull request 3007), which is off by |R^T t - t|: nothing on a straight road, 0.5 m
    for a sweep of 0.45 s ago at 5 m/s and 0.5 rad/s. Bad files are refused as by LoadCheckedPoints. Arguments and the
    draw of the sweeps are those of the base class.
    """

    def transform(self, results: dict) -> dict:
        """Adds the points of `lidar_sweeps` to `points`; column 4 becomes their age in seconds."""
        sweeps = results.get('lidar_sweeps')
        if sweeps is None:
            return super().transform(results)
        chosen = np.arange(min(len(sweeps), self.sweeps_num))
        if len(sweeps) > self.sweeps_num and not self.test_mode:
            chosen = np.random.choice(np.arange(len(sweeps)), self.sweeps_num, replace=False)
        points = results['points']
        points.tensor[:, 4] = 0
        earlier = [read_sweep(sweeps[k], results['timestamp'], self.load_dim, self.remove_close) for k in chosen]
        results['points'] = points.cat([points, *map(points.new_point, earlier)])[:, self.use_dim]
        return results


@TRANSFORMS.register_module()
class LoadPreviousCloud(BaseTransform):
    """Adds the points of the frame before to `points`; the age of each in seconds is its last number, 0 for now.

    In one cloud both are moved alike by the steps that follow. The LiDAR is taken to stand still. A sample without
    `previous_lidar_path`, as the first of a sequence, has points of age 0 alone.

    Args:
        load_dim, use_dim: as of LoadCheckedPoints.
    """

    def __init__(self, load_dim: int = 4, use_dim: int | list[int] = 4) -> None:
        self.loading = LoadCheckedPoints(load_dim, use_dim)

    def transform(self, results: dict) -> dict:
        """Changes `points` from (N, F) to (N + M, F + 1); refuses a bad file by name, as LoadCheckedPoints."""
        clouds, ages = [results['points'].tensor.numpy()], [0.0]
        if results.get('previous_lidar_path'):
            stored = {'lidar_path': results['previous_lidar_path'], 'may_be_empty': True}
            clouds.append(self.loading.transform({'lidar_points': stored})['points'].tensor.numpy())
            ages.append(results['previous_age_s'])
        aged = [np.column_stack([cloud, np.full(len(cloud), age, np.float32)]) for cloud, age in zip(clouds, ages)]
        results['points'] = type(results['points'])(np.concatenate(aged), points_dim=aged[0].shape[1])
        return results


@TRANSFORMS.register_module()
class ZeroUnknownVelocities(BaseTransform):
    """Sets velocities that are NaN to zero, as mmdet3d's NuScenesDataset does while it reads them.

    mmdet3d's heads need it: CenterHead gives such a box the weight 0, and NaN times 0 is a loss of NaN.
    """

    def transform(self, results: dict) -> dict:
        """Changes columns 7 and 8 of `gt_bboxes_3d`, where there are such."""
        results['gt_bboxes_3d'].tensor[:, 7:].nan_to_num_(nan=0.0)
        return results


@TRANSFORMS.register_module()
class CropToImage(BaseTransform):
    """Keeps the points that the one camera of `img_from_lidar` (1, 4, 4) and `stored_hw` sees.

    KITTI labels nothing else. mmdet3d writes a second, cropped copy of all scans for that; this takes less than a
    millisecond a frame. It belongs right behind the loading, before anything moves the points. In inference, a
    cloud without a calibration (`without_camera`) keeps all points.
    """

    def transform(self, results: dict) -> dict:
        """Filters `points`."""
        if results.get('without_camera'):
            return results
        points = results['points']
        seen = in_image(points.tensor.numpy(), results['img_from_lidar'][0], results['stored_hw'][0])
        results['points'] = points[seen]
        return results
