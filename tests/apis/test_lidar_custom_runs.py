"""The tools on clouds of one's own, without cameras: infos, training with validation, test, pictures, raw files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kitti_tree import SIZES_LWH, points_in
from mmdet3d.models.detectors import VoxelNet
from mmengine.structures import InstanceData

from perception3d.apis.testing import test as run_test
from perception3d.apis.training import train
from perception3d.files import read_image
from perception3d.formats.custom_boxes.evaluation.folders import evaluate_files
from perception3d.formats.custom_boxes.files import read_labels, write_labels
from tools import create_data, infer

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'point_pillars' / 'point_pillars_secfpn_160e_custom_boxes.py'
SPLITS = {'train': ['yard_0', 'yard_1', 'yard_2', 'yard_3'], 'val': ['yard_4', 'yard_5'], 'test': ['yard_6']}


def write_frame(root: Path, name: str, labelled: bool) -> None:
    """Objects 8 m to 40 m all around on the ground; val has no cyclists, and yard_5 no objects at all."""
    rng = np.random.default_rng(int(name[-1]))
    names = [] if name == 'yard_5' else ['Car', 'Pedestrian', 'Car', 'Pedestrian']
    names += ['Cyclist'] * 2 if name in SPLITS['train'] else []
    angles = np.arange(len(names)) * 2 * np.pi / max(len(names), 1) + rng.uniform(0, 0.5)
    reach = rng.uniform(8, 40, len(names))
    places = np.column_stack([reach * np.cos(angles), reach * np.sin(angles), np.full(len(names), -1.7)])
    boxes = np.array([[*p, *SIZES_LWH[n], rng.uniform(-3, 3)] for p, n in zip(places, names)]).reshape(-1, 7)
    ground = np.column_stack([rng.uniform(-50, 50, (400, 2)), np.full(400, -1.7)])
    xyz = np.concatenate([ground, *(points_in(box, 30, rng) for box in boxes)])
    cloud = np.column_stack([xyz, rng.uniform(0, 1, len(xyz))]).astype(np.float32)
    cloud.tofile(root / 'points' / f'{name}.bin')
    if labelled:
        write_labels(root / 'labels' / f'{name}.txt', boxes, names)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('mine')
    for folder in ('ImageSets', 'points', 'labels'):
        (root / folder).mkdir()
    for split, names in SPLITS.items():
        (root / 'ImageSets' / f'{split}.txt').write_text('\n'.join(names))
        for name in names:
            write_frame(root, name, labelled=split != 'test')
    assert create_data.main(['lidar', '--root', str(root)]) == 0
    return root


@pytest.fixture(scope='module')
def options(root: Path) -> list[str]:
    """A network of a hundredth on pillars of 0.64 m, two steps; whatever it finds is drawn, written and scored."""
    return [
        f'data_root={root}',
        'pillar_size=[0.64, 0.64]',
        'model.voxel_encoder.feat_channels=[8]',
        'model.middle_encoder.in_channels=8',
        'model.backbone.in_channels=8',
        'model.backbone.layer_nums=[1, 1, 1]',
        'model.backbone.out_channels=[8, 8, 8]',
        'model.neck.in_channels=[8, 8, 8]',
        'model.neck.out_channels=[8, 8, 8]',
        'model.bbox_head.in_channels=24',
        'model.bbox_head.feat_channels=24',
        'model.test_cfg.score_thr=0.0',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'train_dataloader.batch_size=4',
        'default_hooks.logger.interval=1',
        *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val', 'test')),
    ]


@pytest.fixture(scope='module')
def trained(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The checkpoint after two steps, and the scores of the validation in the training loop."""
    work_dir = tmp_path_factory.mktemp('work')
    train(CONFIG, options, work_dir=str(work_dir))
    rows = [json.loads(row) for row in next(work_dir.rglob('scalars.json')).read_text().splitlines()]
    losses = [row['loss'] for row in rows if 'loss' in row]
    assert len(losses) == 2 and np.isfinite(losses).all()
    (scores,) = [row for row in rows if 'lidar/3d/mAP' in row]
    return work_dir / 'epoch_1.pth', {key: value for key, value in scores.items() if key.startswith('lidar/')}


def test_training_validates_and_a_test_gives_the_same_scores_and_pictures(trained, options, tmp_path: Path):
    checkpoint, validated = trained
    out, pictures = tmp_path / 'metrics.json', tmp_path / 'pictures'
    scores = run_test(
        CONFIG, checkpoint, options, work_dir=str(tmp_path / 'w'), out=out, show_dir=str(pictures), score_thr=0.0
    )
    assert json.loads(out.read_text()) == scores
    assert {key: value for key, value in scores.items() if key.startswith('lidar/')} == pytest.approx(validated)
    assert {'lidar/bev/Car', 'lidar/3d/Pedestrian', 'lidar/distance@2m/Car', 'lidar/distance/mAP'} <= scores.keys()
    # There is none in the split, so there is nothing to score.
    assert 'lidar/3d/Cyclist' not in scores
    assert len(list(pictures.rglob('*.png'))) == 2


def test_boxes_of_the_label_files_are_perfect(trained, options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def predict(model: VoxelNet, inputs: dict, samples: list, **kwargs: Any) -> list:
        for sample in samples:
            truth = sample.eval_ann_info
            labels = torch.as_tensor(truth['gt_labels_3d'])
            boxes = truth['gt_bboxes_3d']
            sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=labels, scores_3d=0.9 - labels / 10)
        return samples

    monkeypatch.setattr(VoxelNet, 'predict', predict)
    scores = run_test(CONFIG, trained[0], options, work_dir=str(tmp_path))
    assert {key: value for key, value in scores.items() if key.endswith('mAP')} == pytest.approx(
        {f'lidar/{name}/mAP': 100 for name in ('bev', '3d', 'distance', *(f'distance@{d}m' for d in (0.5, 1, 2, 4)))}
    )


def test_mirrored_views_are_undone_before_scoring_and_result_files_score_the_same(
    trained, options, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    flows = set()

    def predict(model: VoxelNet, inputs: dict, samples: list, **kwargs: Any) -> list:
        for sample in samples:
            flow = tuple(sample.metainfo.get('transformation_3d_flow', ()))
            flows.add(flow)
            truth = sample.eval_ann_info
            labels = torch.as_tensor(truth['gt_labels_3d'])
            boxes = truth['gt_bboxes_3d'].clone()
            for step in flow:
                boxes.flip({'HF': 'horizontal', 'VF': 'vertical'}[step])
            sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=labels, scores_3d=0.9 - labels / 10)
        return samples

    monkeypatch.setattr(VoxelNet, 'predict', predict)
    results = tmp_path / 'results'
    settings = [*options, f'+test_evaluator.format_dir={results}']
    scores = run_test(CONFIG, trained[0], settings, work_dir=str(tmp_path / 'w'), tta=True)
    assert flows == {(), ('HF',), ('VF',), ('HF', 'VF')}
    found = {key.removeprefix('lidar/'): value for key, value in scores.items() if key.startswith('lidar/')}
    assert found == pytest.approx(dict.fromkeys(found, 100.0)) and '3d/Pedestrian' in found
    assert sorted(path.name for path in results.iterdir()) == ['yard_4.txt', 'yard_5.txt']
    assert (results / 'yard_5.txt').read_text() == ''
    again, _ = evaluate_files(root / 'perception3d_infos_val.pkl', results)
    assert again.pop('notes') == ['no objects, so no AP: Cyclist']
    assert again == pytest.approx(found)


def test_raw_clouds_get_a_picture_and_a_file(trained, options, root: Path, tmp_path: Path, capsys):
    cloud = root / 'points' / 'yard_6.bin'
    command = [str(CONFIG), str(trained[0]), str(cloud), '--out', str(tmp_path), '--score-thr', '0', '--fast']
    assert infer.main([*command, '--device', 'cpu', '--cfg-options', *options]) == 0
    picture, boxes, result = capsys.readouterr().out.split()[-3:]
    assert read_image(picture).std() > 5
    content = json.loads(Path(boxes).read_text())
    assert result == str(tmp_path / 'yard_6.txt') and Path(result).is_file()
    assert content['token'] == 'yard_6' and content['frame'] == 'lidar: x forward, y left, z up'
    assert content['boxes'] and {box['class'] for box in content['boxes']} <= {'Car', 'Pedestrian', 'Cyclist'}


def test_format_only_writes_result_files_and_no_scores(trained, options, tmp_path: Path):
    out = tmp_path / 'out'
    found = run_test(CONFIG, trained[0], options, work_dir=str(tmp_path), format_only=str(out))
    assert not any(key.startswith('lidar/') for key in found)
    assert sorted(path.name for path in out.iterdir()) == ['yard_4.txt', 'yard_5.txt']
    assert all(read_labels(path, scored=True).scores is not None for path in out.iterdir())
