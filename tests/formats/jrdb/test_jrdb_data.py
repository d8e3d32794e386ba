"""JRDB's clouds, annotations, info files, data set and pipeline, from a small tree in the layout of the release."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kitti_tree import points_in
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.files import read_pickle
from perception3d.formats.jrdb.clouds import read_pcd, robot_from_lidars
from perception3d.formats.jrdb.dataset import JrdbDataset
from perception3d.formats.jrdb.files import boxes_of, read_frame
from perception3d.formats.jrdb.info import TRUTH_FOLDER, create_infos
from perception3d.formats.jrdb.rules import FAR, FEW_POINTS, VALIDATION
from perception3d.registry import DATASETS, METRICS, MODELS
from tools import create_data

CONFIG = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'datasets' / 'jrdb.py'
SEQUENCES = ('bytes-cafe-2019-02-07_0', VALIDATION[0])
# Where the toolkit's lidars.yaml puts the upper LiDAR, as defaults.yaml writes it; the lower one is not turned here.
CALIBRATION = """calibrated:
  lidar_upper_to_rgb: {translation: [0, 0, -0.33529], rotation: [0, 0, 0.085]}
  lidar_lower_to_rgb: {translation: [0, 0, 0.13511], rotation: [0, 0, 0]}
"""
PEOPLE = ((1, 5.0, 2.0, 300), (2, -4.0, 1.0, 9), (3, 30.0, 1.0, 50))


def write_pcd(path: Path, points: np.ndarray, kind: str = 'binary') -> Path:
    """Writes points (N, 4) as x, y, z, intensity, the last as uint8 after a padding of 2 bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.zeros(len(points), [('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('_', 'u1', (2,)), ('intensity', 'u1')])
    for k, name in enumerate(('x', 'y', 'z', 'intensity')):
        table[name] = points[:, k]
    head = (
        'FIELDS x y z intensity\nSIZE 4 4 4 1\nTYPE F F F U\nCOUNT 1 1 1 1\n'
        if kind == 'ascii'
        else 'FIELDS x y z _ intensity\nSIZE 4 4 4 1 1\nTYPE F F F U U\nCOUNT 1 1 1 2 1\n'
    )
    head = f'# .PCD v0.7\nVERSION 0.7\n{head}WIDTH {len(points)}\nHEIGHT 1\nPOINTS {len(points)}\nDATA {kind}\n'
    body = table.tobytes()
    if kind == 'ascii':
        body = '\n'.join(' '.join(map(str, row.tolist())) for row in points).encode()
    elif kind == 'binary_compressed':
        columns = b''.join(np.ascontiguousarray(table[name]).tobytes() for name in table.dtype.names)
        packed = pack_lzf(columns)
        body = np.array([len(packed), len(columns)], '<u4').tobytes() + packed
    path.write_bytes(head.encode() + body)
    return path


def pack_lzf(data: bytes) -> bytes:
    """Packs a run of one byte as a copy of the byte before, everything else as it is."""
    out, i = b'', 0
    while i < len(data):
        run = next((k for k in range(i, len(data)) if data[k] != data[i]), len(data)) - i
        if run > 4:
            extra = min(run - 1, 264)
            code = bytes([(extra - 2) << 5, 0]) if extra < 9 else bytes([7 << 5, extra - 9, 0])
            out += bytes([0, data[i]]) + code
            i += 1 + extra
        else:
            out += bytes([0, data[i]])
            i += 1
    return out


def write_tree(root: Path, frames: int = 2) -> Path:
    """Two sequences of two frames: one person who walks at 1.5 m/s along x, one with few points, one far away."""
    rng = np.random.default_rng(0)
    (root / 'calibration').mkdir(parents=True)
    (root / 'calibration' / 'defaults.yaml').write_text(CALIBRATION)
    for name in SEQUENCES:
        clouds, images = {}, {}
        for k in range(frames):
            people = [(number, x + 0.1 * k * (number == 1), y, points) for number, x, y, points in PEOPLE]
            clouds[f'{k:06d}.pcd'] = [
                {
                    'label_id': f'pedestrian:{number}',
                    'box': {'cx': x, 'cy': y, 'cz': -0.1, 'l': 0.9, 'w': 0.5, 'h': 1.7, 'rot_z': 6.0},
                    'attributes': {'num_points': points},
                }
                for number, x, y, points in people
            ]
            clouds[f'{k:06d}.pcd'].append({'label_id': 'car:1'})
            seen = {'occlusion': 'Severely_occluded', 'truncated': 'true'}
            images[f'{k:06d}.jpg'] = [
                {'label_id': 'pedestrian:1', 'box': [10, 20, 30, 40], 'attributes': seen},
                {'label_id': 'pedestrian:9', 'box': [1, 2, 3, 4], 'attributes': {}},
            ]
            inside = points_in([*people[0][1:3], -0.95, 0.9, 0.5, 1.7, 6.0], 40, rng)
            for folder, key in (('upper_velodyne', 'upper'), ('lower_velodyne', 'lower')):
                matrix = np.linalg.inv(robot_from_lidars(yaml_of(CALIBRATION))[key])
                own = np.column_stack([inside @ matrix[:3, :3].T + matrix[:3, 3], np.full(40, 51)])
                write_pcd(root / 'pointclouds' / folder / name / f'{k:06d}.pcd', own)
        for folder, content in (('labels_3d', clouds), ('labels_2d_stitched', images)):
            path = root / 'labels' / folder / f'{name}.json'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({'labels': content}))
    return root


def yaml_of(text: str) -> dict:
    from perception3d.files import parse_yaml

    return parse_yaml(text)


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with infos. Read only."""
    root = write_tree(tmp_path_factory.mktemp('jrdb'))
    create_infos(root)
    return root


@pytest.mark.parametrize('kind', ['ascii', 'binary', 'binary_compressed'])
def test_clouds_are_read_in_every_form(tmp_path: Path, kind: str):
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-9, 9, (30, 3)).astype(np.float32), np.arange(30)])
    points[20:, :3] = 0.0
    points[3, 0] = np.nan
    cloud = read_pcd(write_pcd(tmp_path / 'a.pcd', points, kind))
    kept = np.delete(points, 3, axis=0)
    np.testing.assert_allclose(cloud, kept * [1, 1, 1, 1 / 255], rtol=1e-6)


def test_clouds_that_cannot_be_used_are_named(tmp_path: Path):
    path = write_pcd(tmp_path / 'a.pcd', np.ones((30, 4)), 'binary_compressed')
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match=r'a.pcd is not a whole .pcd file'):
        read_pcd(path)
    path = write_pcd(tmp_path / 'b.pcd', np.ones((30, 4)))
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match=r'b.pcd is not a whole .pcd file'):
        read_pcd(path)
    path.write_bytes(path.read_bytes().replace(b'FIELDS x', b'FIELDS u'))
    with pytest.raises(InputError, match='b.pcd is not a whole'):
        read_pcd(path)
    path.write_bytes(b'DATA zip\n')
    with pytest.raises(InputError, match=r'b.pcd has no header of a .pcd file'):
        read_pcd(path)


def test_both_calibrations_put_the_lidars_at_one_place():
    stored = {
        'upper2ego': [[0.99639, -0.084898, 0, 0], [0.084898, 0.99639, 0, 0], [0, 0, 1, 0.33529], [0, 0, 0, 1]],
        'lower2upper': [[0.996759, 0.080337, 0, 0], [-0.080337, 0.996759, 0, 0], [0, 0, 1, -0.472], [0, 0, 0, 1]],
    }
    matrices = robot_from_lidars({'lidar': stored})
    defaults = robot_from_lidars(yaml_of(CALIBRATION))
    np.testing.assert_allclose(matrices['upper'], defaults['upper'], atol=2e-4)
    np.testing.assert_allclose(matrices['lower'], defaults['lower'], atol=6e-3)


def test_infos_and_truth_follow_the_benchmark(tree: Path, capsys: pytest.CaptureFixture[str]):
    create_data.main(['jrdb', '--root', str(tree)])
    text = capsys.readouterr().out
    assert (
        f'note: train: 2 of 6 people are ignored: {FEW_POINTS}' in text and f'2 of 6 people are ignored: {FAR}' in text
    )
    assert 'database' not in text and 'train: 2 frames' in text
    infos = read_pickle(tree / 'perception3d_infos_val.pkl')['data_list']
    assert [info['frame_id'] for info in infos] == [f'{VALIDATION[0]}_{k:06d}' for k in range(2)]
    (person,) = infos[0]['instances']
    np.testing.assert_allclose(person['bbox_3d'], [5, 2, -0.95, 0.9, 0.5, 1.7, 6 - 2 * math.pi, 1.5, 0], atol=1e-6)
    assert (person['track_id'], person['occlusion'], person['num_lidar_pts']) == (1, 2, 300)
    truth = read_frame(tree / TRUTH_FOLDER / SEQUENCES[0] / '000001.txt')
    assert truth.num_points.tolist() == [300, 9, 50, -1] and truth.objects.occluded.tolist() == [2, -1, -1, -1]
    np.testing.assert_allclose(boxes_of(truth.objects)[0][:3], [5.1, 2, -0.95], atol=1e-6)
    np.testing.assert_allclose(truth.objects.boxes_2d, [[10, 20, 40, 60], [-1] * 4, [-1] * 4, [1, 2, 4, 6]])
    assert truth.objects.sizes_m[3].tolist() == [-1, -1, -1]


def test_samples_have_both_clouds_in_the_frame_of_the_robot(tree: Path, tmp_path: Path):
    frames = JrdbDataset(str(tree), 'perception3d_infos_val.pkl', pipeline=[], test_mode=True)
    sample = frames[1]
    assert sample['token'] == f'{VALIDATION[0]}_000001' and sample['scene_token'] == VALIDATION[0]
    points = frames.read_points(sample)
    middle = np.array([5.1, 2, -0.1])
    assert points.shape == (80, 4) and (abs(points[:, :3] - middle).max(0) < [0.5, 0.4, 0.85]).all()
    np.testing.assert_allclose(points[:, 3], 0.2)
    people = sample['eval_ann_info']
    assert people['gt_bboxes_3d'].tensor.shape == (1, 9) and people['ignored_bboxes_3d'].shape == (2, 9)
    cloud = tree / 'pointclouds' / 'upper_velodyne' / VALIDATION[0] / '000001.pcd'
    (raw,) = frames.sample_from_file(cloud)
    assert raw['token'] == sample['token']
    np.testing.assert_array_equal(frames.read_points(raw), points)
    boxes = LiDARInstance3DBoxes(people['gt_bboxes_3d'].tensor, box_dim=9)
    predicted = InstanceData(bboxes_3d=boxes, scores_3d=torch.tensor([0.5]), labels_3d=torch.tensor([0]))
    frames.write_result({'token': 'a', 'pred_instances_3d': predicted}, tmp_path / 'a.txt')
    np.testing.assert_allclose(boxes_of(read_frame(tmp_path / 'a.txt').objects), boxes.tensor[:, :7], atol=1e-6)


def test_the_pipeline_merges_the_clouds(tree: Path):
    init_default_scope('mmdet3d')
    training = Config.fromfile(CONFIG).train_dataloader.dataset
    training.data_root = str(tree)
    for step in training.pipeline:
        if 'rot_range' in step:
            # Turned by 45 degrees, the one who is far away would come into the corner of the range.
            step.rot_range = [0.0, 0.0]
    frame = DATASETS.build(training)[0]
    assert frame['inputs']['points'].shape == (80, 4)
    people = frame['data_samples'].gt_instances_3d
    assert sorted(people.labels_3d.tolist()) == [-1, 0] and people.bboxes_3d.tensor.isfinite().all()


def test_the_config_trains_and_is_scored_on_a_tree(tree: Path):
    # 64 x 64 pillars around the one who walks, and few channels.
    span = [1.92, -3.2, -2, 12.16, 7.04, 2]
    small = dict(pillar_channels=8, block_channels=[8, 16, 16], block_layers=[1, 1, 1], neck_channels=8)
    options = {'data_root': str(tree), 'point_cloud_range': span, 'head_channels': 8, **small}
    config = load_config(config_path('dha_pillar_320x320_40e_jrdb'), options)
    init_default_scope('mmdet3d')
    np.random.seed(0)
    torch.manual_seed(0)
    training = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    totals = []
    for _ in range(8):
        batch = model.data_preprocessor(pseudo_collate([training[0], training[1]]), True)
        total, _ = model.parse_losses(model(**batch, mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert np.isfinite(totals).all() and totals[-1] < 0.7 * totals[0]
    frames = DATASETS.build(config.test_dataloader.dataset)
    metric = METRICS.build(config.test_evaluator)
    metric.dataset_meta = frames.metainfo
    with torch.no_grad():
        for frame in frames:
            samples = model.eval()(**model.data_preprocessor(pseudo_collate([frame]), False), mode='predict')
            metric.process(None, [sample.to_dict() for sample in samples])
    assert set(metric.evaluate(len(frames))) == {f'jrdb/ap@{overlap}' for overlap in (0.3, 0.5, 0.7)}


def test_a_tree_without_labels_gives_test(tmp_path: Path):
    root = write_tree(tmp_path)
    shutil.rmtree(root / 'labels')
    assert list(create_infos(root)['splits']) == ['test'] and not (root / TRUTH_FOLDER).exists()
    frames = JrdbDataset(str(root), 'perception3d_infos_test.pkl', pipeline=[], test_mode=True)
    assert len(frames) == 4 and len(frames.read_points(frames[3])) == 80


def test_trees_that_cannot_be_used_are_named(tmp_path: Path):
    root = write_tree(tmp_path / 'a')
    labels = root / 'labels' / 'labels_3d' / f'{SEQUENCES[0]}.json'
    good = labels.read_text()
    for wrong, message in (
        (good.replace('"cx": 5.0', '"cx": null'), 'frame 000000: cx of pedestrian 1 is None, expected a finite'),
        (good.replace('"cx": 5.0', f'"cx": 1{400 * "0"}'), 'cx of pedestrian 1 is 10{79}, expected a finite'),
        (good.replace('pedestrian:2', 'pedestrian:1'), "'pedestrian:1' is there twice"),
        (good.replace('pedestrian:2', f'pedestrian:{2**63}'), 'is there twice, or has no number'),
        ('{"frames": {}}', "has no 'labels'"),
    ):
        labels.write_text(wrong)
        with pytest.raises(InputError, match=message):
            create_infos(root)
    labels.write_text(good.replace('"num_points": 300', '"num_points": 1e300'))
    create_infos(root)
    assert read_frame(root / TRUTH_FOLDER / SEQUENCES[0] / '000000.txt').num_points[0] == -1
    labels.write_text(good)
    (root / 'pointclouds' / 'lower_velodyne' / SEQUENCES[0] / '000001.pcd').unlink()
    with pytest.raises(InputError, match='1 of 4 clouds of bytes-cafe.* are missing'):
        create_infos(root)
    (root / 'calibration' / 'defaults.yaml').write_text('calibrated: {}')
    with pytest.raises(InputError, match='does not say where the two LiDARs are'):
        create_infos(root)
