"""A data format outside the package, clouds of .npz files with a label for each point, and a model for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet3d.structures.points import LiDARPoints
from mmengine.model import BaseModel

from perception3d.datasets.frame_dataset import SingleFrameDataset
from perception3d.files import write_pickle, write_whole
from perception3d.registry import DATASETS, MODELS, TRANSFORMS
from perception3d.structures.point_labels import PointLabels

CLASSES = ('ground', 'pole', 'block')
META_KEYS = ('frame_id', 'token', 'sample_idx', 'lidar_path', 'num_pts_feats', 'lidar_axes')
RANGE_M = (-15, -15, -3, 15, 15, 3)


def write_clouds(root: Path, count: int = 2) -> None:
    """Writes NAME.npz with points (N, 4) and labels (N,), and infos.pkl; a third of the points is out of RANGE_M."""
    infos = []
    for index in range(count):
        rng = np.random.default_rng(index)
        ground = np.column_stack([rng.uniform(-18, 18, (2000, 2)), rng.normal(-1.6, 0.05, 2000)])
        centers = np.array([[6.0, -4, 0], [-6, 4, 0], [8, 6, -0.5], [-4, -8, -0.5]])
        objects = (rng.uniform(-1, 1, (4, 100, 3)) * [0.8, 0.8, 0.4] + centers[:, None]).reshape(-1, 3)
        points = np.column_stack([np.concatenate([ground, objects]), np.zeros(2400)]).astype(np.float32)
        labels = np.repeat([0, 1, 2], [2000, 200, 200])
        np.savez(root / f's{index}.npz', points=points, labels=labels)
        cloud = {'num_pts_feats': 4, 'lidar_path': f's{index}.npz'}
        info = {'sample_idx': index, 'frame_id': f's{index}', 'labelled': True, 'lidar_points': cloud}
        infos.append({**info, 'instances': []})
    metainfo = {'categories': {name: k for k, name in enumerate(CLASSES)}, 'dataset': 'npz', 'split': 'val'}
    write_pickle(root / 'infos.pkl', {'metainfo': metainfo, 'data_list': infos})


def read_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (N, 4) and labels (N,)."""
    with np.load(path, allow_pickle=False) as content:
        return content['points'], content['labels'].astype(np.int64)


@DATASETS.register_module()
class LabelledPoints(SingleFrameDataset):
    """The clouds of an info file."""

    format_names = ('npz',)
    result_suffix = '.npy'

    def sample_from_file(self, path: str | Path) -> Iterator[dict[str, Any]]:
        """Yields the sample of a cloud."""
        path = Path(path)
        cloud = {'lidar_path': str(path), 'num_pts_feats': 4}
        yield {**cloud, 'sample_idx': 0, 'frame_id': path.stem, 'token': path.stem, 'lidar_points': cloud}

    def read_points(self, info: Mapping[str, Any]) -> np.ndarray:
        """Returns the points of a cloud."""
        return read_npz(info['lidar_path'])[0]

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the labels."""
        with write_whole(path) as temporary, open(temporary, 'wb') as file:
            np.save(file, sample.pred_point_labels.labels)
        return True


@TRANSFORMS.register_module()
class LoadLabelledPoints(BaseTransform):
    """Adds `points` and `pts_semantic_mask`."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reads the cloud."""
        points, results['pts_semantic_mask'] = read_npz(results['lidar_points']['lidar_path'])
        results['points'] = LiDARPoints(points, points_dim=4)
        return results


@MODELS.register_module()
class LowPointsAreGround(BaseModel):
    """Predicts ground for low points and poles for all others, so that every block is wrong."""

    def __init__(self, with_points: bool = False) -> None:
        super().__init__()
        self.height_m = torch.nn.Parameter(torch.tensor(-1.2))
        self.with_points = with_points

    def forward(self, inputs: Any, data_samples: Any, mode: str = 'tensor') -> Any:
        """Returns the samples with `pred_point_labels`; `with_points` these have their points."""
        for points, sample in zip(inputs['points'], data_samples):
            xyz = points[:, :3].numpy() if self.with_points else None
            sample.pred_point_labels = PointLabels((points[:, 2] > self.height_m).long().numpy(), points=xyz)
        return data_samples
