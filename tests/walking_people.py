"""A world of people who walk, as clouds on disk, with a data set, a perfect detector and a metric that keeps tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from perception3d.datasets.box_dataset import SingleFrameBoxDataset
from perception3d.files import write_pickle
from perception3d.registry import DATASETS, METRICS, MODELS
from perception3d.structures.sample_schema import FRAME_KEYS, LIDAR_KEYS, MMDET3D_KEYS

STEP_S = 0.4
META_KEYS = (*LIDAR_KEYS, *FRAME_KEYS, *MMDET3D_KEYS)

CONFIG = """
from mmdet3d.datasets.transforms import Pack3DDetInputs
from mmengine.dataset import DefaultSampler
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.models.crowd.tracker import CenterTracker
from walking_people import META_KEYS, KeptTracks, PeopleByNumber, WalkingPeople

default_scope = 'mmdet3d'
model = dict(type=PeopleByNumber)
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=WalkingPeople, data_root={root!r}, ann_file='infos.pkl', test_mode=True,
        pipeline=[
            dict(type=LoadCheckedPoints), dict(type=Pack3DDetInputs, keys=['points'], meta_keys=META_KEYS)]))
test_evaluator = dict(type=KeptTracks)
test_cfg = dict()
tracker = dict(type=CenterTracker)
"""


def write_people(root: Path, frames: int = 4, scenes: tuple[str, ...] = ('012', '013')) -> Path:
    """Writes clouds/SCENE/NUMBER.bin (x, y, z, number of the person), infos.pkl and config.py, whose path it returns.

    In each scene three people walk from left to right; of the last scene, the third one is gone in the last frame.
    """
    infos: list[dict[str, Any]] = []
    for scene in scenes:
        (root / 'clouds' / scene).mkdir(parents=True)
        for frame in range(frames):
            people = 2 if scene == scenes[-1] and frame == frames - 1 else 3
            centres = np.array([[8.0 + 2 * k, -2.0 + 0.5 * frame * (k + 1) / 2, -0.8] for k in range(people)])
            spread = np.random.default_rng(0).uniform(-1, 1, (people, 30, 3)) * [0.2, 0.2, 0.8]
            spread -= spread.mean(axis=1, keepdims=True)
            points = np.concatenate([centres[:, None] + spread, np.ones((people, 30, 1))], axis=2)
            points[..., 3] *= np.arange(people)[:, None]
            path = f'clouds/{scene}/{frame}.bin'
            points.reshape(-1, 4).astype(np.float32).tofile(root / path)
            boxes = [[*centre[:2], centre[2] - 0.85, 0.6, 0.6, 1.7, np.pi / 2] for centre in centres]
            infos.append(
                {
                    'sample_idx': len(infos),
                    'frame_id': f'{scene}_{frame:06d}',
                    'scene_token': scene,
                    'timestamp': 1000.0 + frame * STEP_S,
                    'labelled': True,
                    'lidar_points': {'lidar_path': path, 'num_pts_feats': 4},
                    'instances': [{'name': 'person', 'bbox_3d': box, 'num_lidar_pts': 30} for box in boxes],
                }
            )
    metainfo = {'dataset': 'walking', 'split': 'val', 'categories': {'person': 0}}
    write_pickle(root / 'infos.pkl', {'metainfo': metainfo, 'data_list': infos})
    (root / 'config.py').write_text(CONFIG.format(root=str(root)))
    torch.save({'state_dict': PeopleByNumber().state_dict()}, root / 'weights.pth')
    return root / 'config.py'


@DATASETS.register_module()
class WalkingPeople(SingleFrameBoxDataset):
    """The clouds of an info file."""

    format_names = ('walking',)
    default_classes = ('person',)


@MODELS.register_module()
class PeopleByNumber(BaseModel):
    """Predicts a box for each number that points have."""

    def __init__(self) -> None:
        super().__init__()
        self.score = torch.nn.Parameter(torch.tensor(0.9))

    def forward(self, inputs: Any, data_samples: Any, mode: str = 'tensor') -> Any:
        """Returns the samples with `pred_instances_3d`."""
        for points, sample in zip(inputs['points'], data_samples):
            numbers = points[:, 3].unique().tolist()
            centres = torch.stack([points[points[:, 3] == number, :3].mean(0) for number in numbers])
            size = centres.new_tensor([0.6, 0.6, 1.7, np.pi / 2, np.nan, np.nan]).expand(len(centres), 6)
            boxes = torch.cat([centres - centres.new_tensor([0, 0, 0.85]), size], dim=1)
            sample.pred_instances_3d = InstanceData(
                bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9),
                scores_3d=self.score.detach().expand(len(boxes)),
                labels_3d=torch.zeros(len(boxes), dtype=torch.long),
            )
        return data_samples


@METRICS.register_module()
class KeptTracks(BaseMetric):
    """Counts tracked people; `seen` has the tracks of each sample of the last test."""

    seen: dict[str, Any] = {}

    def __init__(self, format_dir: str | None = None, format_only: bool = False) -> None:
        super().__init__()
        self.format_only = format_only
        type(self).seen = {}

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Keeps the tracks of a batch."""
        for sample in data_samples:
            self.seen[sample['token']] = sample.get('pred_tracks')
            self.results.append(len(sample.get('pred_tracks') or ()))

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Returns the mean number of tracks of a frame."""
        return {} if self.format_only else {'tracked': float(np.mean(results))}
