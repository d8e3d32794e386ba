"""The metrics of LiDAR detectors over two processes: equal scores and files, whatever each process has seen."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from free_port import free_port
from lidar_score_shares import CLASSES, score_both, score_lidar_shares
from mmdet3d.structures import LiDARInstance3DBoxes
from slow_kitti import line
from torch import multiprocessing

SIZES_LWH = np.array([[0.8, 0.6, 1.7], [1.8, 0.6, 1.7], [3.9, 1.6, 1.5]])
CAM_FROM_LIDAR = np.array([[0, -1.0, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
IMG_FROM_CAM = np.array([[720.0, 0, 610, 0], [0, 720, 172, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def boxes_of(boxes: np.ndarray) -> LiDARInstance3DBoxes:
    return LiDARInstance3DBoxes(torch.from_numpy(boxes.reshape(-1, 7)).float())


def frame(index: int) -> tuple[dict, list[str]]:
    """A sample with truth and predictions, and the lines of its label file; 2 has only false boxes, 3 finds nothing."""
    rng = np.random.default_rng(index)
    labels = rng.permutation(np.repeat([0, 1, 2], 4))
    places = np.array([(x, y) for x in (10.0, 18.0, 26.0, 34.0) for y in (-4.0, 0.0, 4.0)])
    truth = np.column_stack([places, np.full(12, -1.7), SIZES_LWH[labels], rng.uniform(-3, 3, 12)])
    found = truth + rng.normal(size=truth.shape) * [0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.1]
    objects, answers = (0 if index == 2 else 12), (0 if index == 3 else 12)
    predicted = dict(
        bboxes_3d=boxes_of(found[:answers]),
        labels_3d=torch.from_numpy(labels[:answers]),
        scores_3d=torch.from_numpy(rng.permutation(12)[:answers] / 20 + index / 100).float(),
    )
    annotations = dict(gt_bboxes_3d=boxes_of(truth[:objects]), gt_labels_3d=labels[:objects])
    lines = [
        line(CLASSES[label], 0, 0, (b[5], b[4], b[3]), (-b[1], -0.08 - b[2], b[0] - 0.27), -b[6] - math.pi / 2)
        for label, b in zip(labels[:objects], truth)
    ]
    camera = dict(cam_from_lidar=CAM_FROM_LIDAR[None], stored_from_cam=IMG_FROM_CAM[None], stored_hw=[(375, 1242)])
    return dict(pred_instances_3d=predicted, eval_ann_info=annotations, frame_id=f'{index:06d}', **camera), lines


@pytest.fixture(scope='module')
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[dict]]:
    """The folder with the files, the scores of one process, and those that each of two processes gets."""
    folder = tmp_path_factory.mktemp('shares')
    (folder / 'gt').mkdir()
    samples = []
    for index in range(5):
        sample, lines = frame(index)
        samples.append(sample)
        (folder / 'gt' / f'{index:06d}.txt').write_text(''.join(f'{text}\n' for text in lines))
    torch.save(samples, folder / 'samples.pt')
    alone = score_both(samples, str(folder / 'gt'), str(folder / 'one'), len(samples))
    multiprocessing.spawn(score_lidar_shares, (free_port(), str(folder)), nprocs=2)
    return folder, alone, [json.loads((folder / f'scores_{rank}.json').read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(
    ('prefix', 'partly'),
    [
        ('kitti', ['kitti/3d/car/moderate/R40', 'kitti/3d/mAP/moderate/R40', 'kitti/aos/pedestrian/hard/R11']),
        ('lidar', ['lidar/3d/Car', 'lidar/bev/0-20m/Pedestrian', 'lidar/distance/20-m/mAP', 'lidar/3d/mAP']),
    ],
)
def test_two_processes_give_the_scores_of_one_and_both_are_reported(scored, prefix: str, partly: list[str]):
    _, alone, together = scored
    assert together[0][prefix] == together[1][prefix] == alone[prefix]
    # Partly right: without any one of the frames, some of these would be others.
    assert all(1 < alone[prefix][key] < 99 for key in partly)


def test_each_frame_has_one_result_file(scored):
    folder, _, _ = scored
    written = [{path.name: path.read_text() for path in (folder / name).iterdir()} for name in ('one', 'two')]
    assert written[0] == written[1]
    assert sorted(written[0]) == [f'{index:06d}.txt' for index in range(5)]
