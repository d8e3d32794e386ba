"""Test-time augmentation of the configs: every mirrored view of a cloud gives the same boxes, velocities included."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.structures import Box3DMode, Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import InstanceData
from torch import nn

from perception3d.apis.config import load_config
from perception3d.models.lidar_det.tta import undo_augmentation
from perception3d.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
# x, y, z of the bottom, l, w, h, yaw, vx, vy.
OBJECTS = torch.tensor(
    [[10.0, 4.0, -1.5, 3.9, 1.6, 1.5, 0.4, 3.0, -1.0], [-20.0, 7.0, -1.6, 0.8, 0.6, 1.7, -2.5, 0, 2]]
)


class _Finder(nn.Module):
    """Reads objects off points: intensity 3k + 1 at the bottom, 3k + 2 a metre ahead, 3k + 3 a second later."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.views: list[Det3DDataSample] = []

    def test_step(self, data: dict) -> list[Det3DDataSample]:
        for points, sample in zip(data['inputs']['points'], data['data_samples'], strict=True):
            boxes = OBJECTS.clone()
            for k, box in enumerate(boxes):
                place, ahead, later = (points[points[:, 3] == 3 * k + tag][0, :3] for tag in (1, 2, 3))
                box[:3] = place
                box[6] = torch.atan2(*(ahead - place)[[1, 0]])
                box[7:9] = (later - place)[:2]
            # The view that is mirrored along both axes is the surest, so that its boxes are kept.
            scores = 0.5 + 0.1 * (boxes[:, 1] < 0) + 0.2 * (boxes[:, 0] * OBJECTS[:, 0] < 0)
            boxes = LiDARInstance3DBoxes(boxes[:, : self.columns], box_dim=self.columns)
            found = InstanceData(bboxes_3d=boxes, scores_3d=scores, labels_3d=torch.tensor([0, 1]))
            sample.pred_instances_3d = found
            self.views.append(sample.clone())
        return data['data_samples']


def _cloud(features: int) -> np.ndarray:
    rows = []
    for k, (x, y, z, *_, yaw, vx, vy) in enumerate(OBJECTS.tolist()):
        for tag, (dx, dy) in enumerate([(0, 0), (math.cos(yaw), math.sin(yaw)), (vx, vy)], start=1):
            rows.append([x + dx, y + dy, z, 3 * k + tag, 7.0][:features])
    return np.array(rows, np.float32)


def _same(boxes: torch.Tensor, columns: int) -> bool:
    straight = [k for k in range(columns) if k != 6]
    # As angles between -pi and pi.
    turn = (boxes[:, 6] - OBJECTS[:, 6] + math.pi) % (2 * math.pi) - math.pi
    return torch.allclose(boxes[:, straight], OBJECTS[:, straight], atol=1e-4) and bool((turn.abs() < 1e-4).all())


@pytest.mark.parametrize(('name', 'features', 'columns'), [('nuscenes_lidar', 5, 9), ('custom_boxes', 4, 7)])
def test_every_mirrored_view_of_a_cloud_gives_the_same_boxes(tmp_path, name, features, columns):
    config = Config.fromfile(CONFIGS / '_base_' / 'datasets' / f'{name}.py')
    path = tmp_path / 'cloud.bin'
    _cloud(features).tofile(path)
    sample = dict(
        lidar_points=dict(lidar_path=str(path), num_pts_feats=features),
        lidar_sweeps=[],
        timestamp=0.0,
        box_type_3d=LiDARInstance3DBoxes,
        box_mode_3d=Box3DMode.LIDAR,
    )
    finder = _Finder(columns)
    model = MODELS.build(dict(config.tta_model, module=finder))
    (merged,) = model.test_step(pseudo_collate([Compose(config.tta_pipeline)(sample)]))
    assert {tuple(view.transformation_3d_flow) for view in finder.views} == {(), ('HF',), ('VF',), ('HF', 'VF')}
    assert sum(_same(view.pred_instances_3d.bboxes_3d.tensor, columns) for view in finder.views) == 1
    for view in finder.views:
        assert _same(undo_augmentation(view.pred_instances_3d.bboxes_3d, view.metainfo).tensor, columns)
    result = merged.pred_instances_3d
    assert result.scores_3d.tolist() == pytest.approx([0.8, 0.8])
    assert _same(result.bboxes_3d.tensor[result.labels_3d.argsort()], columns)


def test_the_views_of_nuscenes_pointpillars_are_loaded_as_in_its_tests():
    config = load_config(CONFIGS / 'point_pillars' / 'point_pillars_fpn_24e_nuscenes.py')
    steps = config.val_dataloader.dataset.pipeline
    assert config.tta_pipeline[:2] == steps[:2]
    assert config.tta_pipeline[2].transforms[1:] == [[steps[2]], [steps[3]]]
    assert steps[1].sweeps_num == 10
