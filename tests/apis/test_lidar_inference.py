"""Inference of LiDAR detectors on raw clouds: what enters the network, what is written, and unusable inputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kitti_tree import IMAGE_HW, KittiTree
from mmdet3d.datasets.transforms import Pack3DDetInputs, PointsRangeFilter
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.structures import InstanceData
from shipped import config_path
from tiny_lidar import shrink_to

from perception3d.apis.config import load_config
from perception3d.apis.inferencer import Inferencer
from perception3d.checks import InputError
from perception3d.datasets.point_clouds import in_image
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.files import read_image
from perception3d.formats.custom_boxes.dataset import POINT_META_KEYS, PointBoxDataset
from perception3d.formats.custom_boxes.files import read_labels
from perception3d.formats.kitti.dataset import KittiFrameDataset
from perception3d.formats.kitti.files import read_objects
from perception3d.registry import MODELS
from tools import infer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'point_pillars' / 'point_pillars_tiny_10e_kitti_sim.py'
CLASSES = ['Pedestrian', 'Cyclist', 'Car']
RANGE = np.array([0, -20, -3, 40, 20, 1.0])


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> KittiTree:
    """A tree of two frames, without info files: inference needs none. Read only."""
    tree = KittiTree(tmp_path_factory.mktemp('raw'))
    tree.write({'train': ['000000', '000001']})
    return tree


def small(config: Config) -> Config:
    """A twentieth of the network, that answers with every box that suppression leaves."""
    config.model.backbone.update(layer_nums=[0, 0, 0], out_channels=[8, 8, 8])
    config.model.neck.update(in_channels=[8, 8, 8], out_channels=[8, 8, 8])
    config.model.bbox_head.update(in_channels=24, feat_channels=24)
    config.model.test_cfg.update(score_thr=0.0, nms_pre=20)
    return config


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    torch.save({'state_dict': MODELS.build(small(Config.fromfile(CONFIG)).model).state_dict()}, path)
    return path


@pytest.fixture
def inferencer(checkpoint: Path) -> Inferencer:
    return Inferencer(small(Config.fromfile(CONFIG)), checkpoint, device='cpu')


@pytest.fixture
def entered(inferencer: Inferencer, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The clouds that enter the network, which then runs as ever."""
    seen: list[np.ndarray] = []
    step = inferencer.model.test_step

    def note(batch: dict[str, Any]) -> Any:
        seen.append(batch['inputs']['points'][0].numpy())
        return step(batch)

    monkeypatch.setattr(inferencer.model, 'test_step', note)
    return seen


def in_range(points: np.ndarray) -> np.ndarray:
    return points[((points[:, :3] > RANGE[:3]) & (points[:, :3] < RANGE[3:])).all(axis=1)]


def read(path: Path) -> np.ndarray:
    return np.fromfile(path, np.float32).reshape(-1, 4)


def test_a_frame_brings_its_picture_and_its_boxes(tree: KittiTree, inferencer: Inferencer, tmp_path: Path):
    cloud = tree.root / 'training' / 'velodyne' / '000001.bin'
    (sample,) = inferencer(cloud)
    written = inferencer.write(cloud, tmp_path / 'out', score_thr=0.0)
    assert written == [tmp_path / 'out' / f'000001{suffix}' for suffix in ('.png', '.json', '.txt')]
    content = json.loads(written[1].read_text())
    assert content['token'] == '000001' and content['frame'] == 'lidar: x forward, y left, z up'
    found = sample.pred_instances_3d
    assert len(content['boxes']) == len(found) > 0
    for entry, box, score, label in zip(content['boxes'], found.bboxes_3d, found.scores_3d, found.labels_3d):
        x, y, bottom, length, width, height, yaw = box.tolist()
        assert entry.keys() == {'class', 'score', 'center_m', 'size_lwh_m', 'yaw_rad'}
        assert entry['class'] == CLASSES[label] and entry['score'] == pytest.approx(float(score), abs=1e-4)
        assert entry['center_m'] == pytest.approx([x, y, bottom + height / 2], abs=1e-4)
        assert entry['size_lwh_m'] == pytest.approx([length, width, height]) and entry['yaw_rad'] == pytest.approx(yaw)
    # Title, image of 1242 x 375 in 540 rows at most, bird's-eye views.
    assert read_image(written[0]).shape == (34 + 540 + 840, 1920, 3)


def test_every_frame_has_its_own_files_and_inputs_are_kept(tree: KittiTree, inferencer: Inferencer, tmp_path: Path):
    points = np.fromfile(tree.root / 'training' / 'velodyne' / '000000.bin', np.float32).reshape(-1, 4)
    inputs = [tmp_path / name for name in ('a/16.1.bin', 'a/16.2.bin', 'b/16.1.bin', 'b/16.1.npy')]
    for path in inputs:
        path.parent.mkdir(exist_ok=True)
        np.save(path, points) if path.suffix == '.npy' else points.tofile(path)
    out = tmp_path / 'out'
    for _ in range(2):
        written = [path.name for cloud in inputs for path in inferencer.write(cloud, out)]
        stems = ['16.1', '16.2', '16.1_2', '16.1_3']
        assert written == [f'{stem}{suffix}' for stem in stems for suffix in ('.png', '.json')]
    assert sorted(path.name for path in out.iterdir()) == sorted(written)
    # The image next to the cloud has the name that the picture would get.
    kitti = Path(shutil.copytree(tree.root / 'training', tmp_path / 'training'))
    image = kitti / 'image_2' / '000000.png'
    before = image.read_bytes()
    picture, *_ = inferencer.write(kitti / 'velodyne' / '000000.bin', kitti / 'image_2')
    assert picture.name == '000000_2.png' and image.read_bytes() == before
    # Labels are not replaced by results.
    label = kitti / 'label_2' / '000000.txt'
    before = label.read_bytes()
    with pytest.raises(InputError, match=r'label_2/000000\.txt is not a result file and would be lost'):
        inferencer.write(kitti / 'velodyne' / '000000.bin', kitti / 'label_2')
    assert label.read_bytes() == before and not list(label.parent.glob('*.png'))


def test_the_network_gets_what_the_camera_sees(
    tree: KittiTree, inferencer: Inferencer, entered: list[np.ndarray], tmp_path: Path
):
    cloud = tree.root / 'training' / 'velodyne' / '000000.bin'
    points = read(cloud)
    (with_camera,) = inferencer(cloud)
    calibration = tree.calibration
    img_from_lidar = calibration.img_from_cam() @ calibration.cam_from_lidar()
    np.testing.assert_array_equal(entered[0], in_range(points[in_image(points, img_from_lidar, IMAGE_HW)]))
    np.testing.assert_allclose(with_camera.metainfo['img_from_lidar'], img_from_lidar[None])
    assert with_camera.metainfo['img_paths'] == [str(tree.root / 'training' / 'image_2' / '000000.png')]
    # Alone, the cloud is used whole; as an array in any float type too.
    shutil.copy(cloud, tmp_path / 'cloud.bin')
    np.save(tmp_path / 'array.npy', points.astype(np.float64))
    for name in ('cloud.bin', 'array.npy'):
        (alone,) = inferencer(tmp_path / name)
        assert not {'cam_from_lidar', 'img_paths', 'only_ahead'} & set(alone.metainfo)
        np.testing.assert_array_equal(entered[-1], in_range(points))
    assert len(entered[0]) < len(entered[1]) == len(entered[2])
    assert read_image(inferencer.write(tmp_path / 'array.npy', tmp_path)[0]).shape == (34 + 840, 1920, 3)


def test_fast_inference_finds_the_same_boxes(tree: KittiTree, tmp_path: Path):
    torch.manual_seed(0)
    config = Config.fromfile(CONFIG)
    config.model.test_cfg.update(score_thr=0.0, nms_pre=60, max_num=6)
    model = MODELS.build(config.model)
    for part in model.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.3)
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2.0)
    torch.nn.init.normal_(model.bbox_head.conv_cls.weight, 0, 0.2)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'random.pth')
    # Points everywhere: where there are none, all anchors would have the same score.
    points = np.random.default_rng(0).uniform([*RANGE[:3], 0], [*RANGE[3:], 1], (9000, 4)).astype(np.float32)
    cloud = read(tree.root / 'training' / 'velodyne' / '000000.bin')
    np.concatenate([cloud, points]).tofile(tmp_path / 'cloud.bin')
    plain, fast = (
        next(Inferencer(config, tmp_path / 'random.pth', 'cpu', fast=fast)(tmp_path / 'cloud.bin')).pred_instances_3d
        for fast in (False, True)
    )
    # The order is certain: no two scores are as near to each other as rounding could bring them.
    assert len(plain) == 6 and plain.scores_3d.diff().abs().min() > 1e-5
    assert plain.labels_3d.tolist() == fast.labels_3d.tolist()
    torch.testing.assert_close(fast.bboxes_3d.tensor, plain.bboxes_3d.tensor, atol=1e-3, rtol=0)
    torch.testing.assert_close(fast.scores_3d, plain.scores_3d, atol=1e-3, rtol=0)
    # Other arithmetic, not the same one twice.
    assert not torch.equal(fast.bboxes_3d.tensor, plain.bboxes_3d.tensor)


@pytest.mark.parametrize('fast', [False, True])
def test_clouds_with_nothing_in_range_have_no_boxes(
    tree: KittiTree, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, fast: bool
):
    inferencer = Inferencer(small(Config.fromfile(CONFIG)), checkpoint, device='cpu', fast=fast)
    full = tree.root / 'training' / 'velodyne' / '000000.bin'
    np.save(tmp_path / 'none.npy', np.zeros((0, 4), np.float32))
    np.save(tmp_path / 'far.npy', np.full((20, 4), -500, np.float32))
    before = next(inferencer(full)).pred_instances_3d
    (tmp_path / 'none.bin').touch()
    for name in ('none.npy', 'far.npy', 'none.bin'):
        assert len(next(inferencer(tmp_path / name)).pred_instances_3d.scores_3d) == 0
        _, written = inferencer.write(tmp_path / name, tmp_path / 'out')
        assert json.loads(written.read_text())['boxes'] == []
        # Raw data of 0 bytes may be a copy that failed.
        printed = f'{tmp_path / name} holds no points: if it should hold some, copy the file again'
        assert capsys.readouterr().out.count(printed) == (2 if name == 'none.bin' else 0)
    after = next(inferencer(full)).pred_instances_3d
    assert len(before.scores_3d) > 0 and before.scores_3d.equal(after.scores_3d)


def data_set(kind: type, root: Path, **settings: Any) -> Any:
    steps = [dict(type=LoadCheckedPoints, load_dim=4, use_dim=4)]
    settings = dict(metainfo=dict(classes=CLASSES), pipeline=steps, lazy_init=True, test_mode=True, **settings)
    return kind(data_root=str(root), ann_file='none.pkl', **settings)


def test_a_calibration_without_an_image_has_the_usual_size(tree: KittiTree, tmp_path: Path):
    shutil.copytree(tree.root / 'training', tmp_path / 'training')
    cloud = tmp_path / 'training' / 'velodyne' / '000000.bin'
    dataset = data_set(KittiFrameDataset, tmp_path)
    (sample,) = dataset.sample_from_file(cloud)
    assert sample['stored_hw'] == [IMAGE_HW] and sample['img_paths'][0].endswith('image_2/000000.png')
    (tmp_path / 'training' / 'image_2' / '000000.png').unlink()
    (sample,) = dataset.sample_from_file(cloud)
    assert sample['stored_hw'] == [(375, 1242)] and sample['img_paths'] == [''] and 'img_from_lidar' in sample
    (sample,) = data_set(PointBoxDataset, tmp_path).sample_from_file(cloud)
    assert 'cam_from_lidar' not in sample and sample['lidar_axes'] == 'x forward, y left'


def test_result_files_score_as_the_boxes_that_were_written(tree: KittiTree, tmp_path: Path):
    """Objects themselves as predictions: the files of one frame, by both formats, are perfect or equal."""
    cloud, names = tree.root / 'training' / 'velodyne' / '000000.bin', tree.boxes['000000'][0]
    rows = [k for k, name in enumerate(names) if name in CLASSES]
    boxes = torch.tensor(tree.boxes['000000'][1][rows], dtype=torch.float64)
    predicted = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes),
        scores_3d=torch.linspace(0.9, 0.5, len(rows)),
        labels_3d=torch.tensor([CLASSES.index(names[k]) for k in rows]),
    )
    for kind in (KittiFrameDataset, PointBoxDataset):
        dataset = data_set(kind, tmp_path)
        (metas,) = dataset.sample_from_file(cloud)
        sample = Det3DDataSample(metainfo=metas, pred_instances_3d=predicted)
        folder = tmp_path / kind.__name__
        assert dataset.write_result(sample, folder / '000000.txt')
        # A second run replaces its own file, and no other.
        assert dataset.write_result(sample, folder / '000000.txt')
    written = read_objects(tmp_path / 'KittiFrameDataset' / '000000.txt', scored=True)
    stored = read_objects(tree.root / 'training' / 'label_2' / '000000.txt').select(np.array(rows))
    assert written.names.tolist() == stored.names.tolist()
    np.testing.assert_allclose(written.bottom_centers_m, stored.bottom_centers_m, atol=0.011)
    found = read_labels(tmp_path / 'PointBoxDataset' / '000000.txt', scored=True)
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-6)
    assert found.names == written.names.tolist()
    shutil.copytree(tree.root / 'training' / 'velodyne', tmp_path / 'velodyne')
    (metas,) = data_set(KittiFrameDataset, tmp_path).sample_from_file(tmp_path / 'velodyne' / '000000.bin')
    sample = Det3DDataSample(metainfo=metas, pred_instances_3d=predicted)
    assert not data_set(KittiFrameDataset, tmp_path).write_result(sample, tmp_path / 'none.txt')
    (tmp_path / 'labels.txt').write_text('1 2 0 4 2 1.5 0 Car\n')
    with pytest.raises(InputError, match=r'labels\.txt is not a result file and would be lost: choose another folder'):
        data_set(PointBoxDataset, tmp_path).write_result(sample, tmp_path / 'labels.txt')
    assert not (tmp_path / 'none.txt').exists()


@pytest.mark.parametrize('name', ['center_point_pillar_cyclic20e_nuscenes', 'point_pillars_fpn_24e_nuscenes'])
def test_nuscenes_lidar_detectors_take_a_bare_cloud(tmp_path: Path, name: str):
    """It is one sweep without an age, as the keyframe alone of an info file."""
    config = load_config(config_path(name))
    shrink_to(config.model, 64, 64)
    filters = [step for step in config.test_dataloader.dataset.pipeline if 'point_cloud_range' in step]
    filters[0].point_cloud_range = config.model.data_preprocessor.voxel_layer.point_cloud_range
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(config.model).state_dict()}, tmp_path / 'random.pth')
    points = np.random.default_rng(0).uniform([0, -1.5, -1, 0, 0], [3, 1.5, 1, 255, 31], (500, 5)).astype(np.float32)
    points.tofile(tmp_path / 'sweep.pcd.bin')
    inferencer = Inferencer(config, tmp_path / 'random.pth', device='cpu')
    entered = []
    step = inferencer.model.test_step
    inferencer.model.test_step = lambda batch: entered.append(batch['inputs']['points'][0].numpy()) or step(batch)
    picture, boxes = inferencer.write(tmp_path / 'sweep.pcd.bin', tmp_path / 'out')
    content = json.loads(boxes.read_text())
    assert content['token'] == 'sweep.pcd' and content['frame'] == 'lidar: x right, y forward, z up'
    assert read_image(picture).std() > 5
    (cloud,) = entered
    # The last of four or five columns is the age.
    assert len(cloud) == 500 and not cloud[:, -1].any()
    np.testing.assert_array_equal(cloud[:, :-1], points[:, : cloud.shape[1] - 1])
    with pytest.raises(InputError, match=r'frame\.txt: expected a cloud \(\.bin or \.npy\), not \.txt'):
        list(inferencer(tmp_path / 'frame.txt'))


def test_the_score_decides_what_is_drawn_but_not_what_is_written(
    tree: KittiTree, inferencer: Inferencer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    predict = inferencer._predict

    def two_boxes(*args: Any) -> Any:
        found = predict(*args)
        sample = found.sample
        boxes = sample.pred_instances_3d.bboxes_3d
        new = boxes.new_box(torch.tensor([[15.0, 0, -1.7, 4, 1.6, 1.5, 0], [20, 4, -1.7, 4, 1.6, 1.5, 0]]))
        given = InstanceData(bboxes_3d=new, scores_3d=torch.tensor([0.9, 0.4]), labels_3d=torch.tensor([2, 0]))
        sample.pred_instances_3d = given
        return found

    monkeypatch.setattr(inferencer, '_predict', two_boxes)
    cloud = tree.root / 'training' / 'velodyne' / '000000.bin'
    red = []
    for score_thr in (0.3, 0.5):
        picture, boxes, _ = inferencer.write(cloud, tmp_path / str(score_thr), score_thr)
        classes = [box['class'] for box in json.loads(boxes.read_text())['boxes']]
        assert classes == ['Car', 'Pedestrian']
        image = read_image(picture)[:, : 1920 - 240]
        assert (image == (255, 160, 64)).all(axis=2).sum() > 100
        red.append((image == (80, 70, 255)).all(axis=2).sum())
    assert red[0] > 100 and red[1] == 0


def test_lidar_only_data_in_its_own_order_of_classes(checkpoint: Path, tree: KittiTree, tmp_path: Path):
    config = small(Config.fromfile(CONFIG))
    config.test_dataloader.dataset = dict(
        type=PointBoxDataset,
        data_root='nowhere',
        ann_file='none.pkl',
        metainfo=dict(classes=['Forklift', 'Person', 'Truck']),
        test_mode=True,
        pipeline=[
            dict(type=LoadCheckedPoints, load_dim=4, use_dim=4),
            dict(type=PointsRangeFilter, point_cloud_range=RANGE.tolist()),
            dict(type=Pack3DDetInputs, keys=['points'], meta_keys=POINT_META_KEYS),
        ],
    )
    # This format has no cameras, so the one next to the cloud is not looked for.
    cloud = tree.root / 'training' / 'velodyne' / '000000.bin'
    picture, boxes, result = Inferencer(config, checkpoint, device='cpu').write(cloud, tmp_path)
    content = json.loads(boxes.read_text())
    assert content['boxes'] and {box['class'] for box in content['boxes']} <= {'Forklift', 'Person', 'Truck'}
    assert read_labels(result, scored=True).names == [box['class'] for box in content['boxes']]
    assert content['frame'] == 'lidar: x forward, y left, z up'
    assert read_image(picture).shape == (34 + 840, 1920, 3)


def test_inputs_that_cannot_be_used_are_named(tree: KittiTree, inferencer: Inferencer, tmp_path: Path):
    def fails(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words):
            list(inferencer(path))

    fails(tmp_path / 'frame.json', r'frame\.json: expected a cloud \(\.bin or \.npy\), not \.json')
    fails(tmp_path, 'expected a cloud .* or a folder of clouds, but there is none in it')
    fails(tmp_path / 'gone.bin', r'gone\.bin does not exist')
    (tmp_path / 'short.bin').write_bytes(b'12345')
    fails(tmp_path / 'short.bin', r'short\.bin is truncated: 5 bytes is not a multiple of 16')
    np.save(tmp_path / 'five.npy', np.zeros((3, 5)))
    fails(tmp_path / 'five.npy', r'five\.npy holds float64 of shape \(3, 5\): expected floats of shape \(N, 4\)')
    shutil.copytree(tree.root / 'training', tmp_path / 'training')
    cloud = tmp_path / 'training' / 'velodyne' / '000000.bin'
    (tmp_path / 'training' / 'image_2' / '000000.png').write_bytes(b'no image')
    fails(cloud, r'000000\.png is not a PNG image')
    (tmp_path / 'training' / 'calib' / '000000.txt').write_text('P2: 1 2 3')
    fails(cloud, r'calib/000000\.txt, line 1: P2 has 3 values')


def test_a_pipeline_that_loads_no_points_is_named(checkpoint: Path, tree: KittiTree):
    config = small(Config.fromfile(CONFIG))
    config.test_dataloader.dataset.pipeline = config.test_dataloader.dataset.pipeline[1:]
    with pytest.raises(InputError, match=r'000000\.bin: no step of the test pipeline loads points: add LoadChecked'):
        list(Inferencer(config, checkpoint, device='cpu')(tree.root / 'training' / 'velodyne' / '000000.bin'))


def test_the_tool_writes_all_frames(
    checkpoint: Path,
    tree: KittiTree,
    inferencer: Inferencer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Any,
):
    wanted = []
    monkeypatch.setattr('perception3d.apis.inferencer.Inferencer', lambda *args: wanted.append(args[3:]) or inferencer)
    clouds = [str(tree.root / 'training' / 'velodyne' / f'00000{i}.bin') for i in (0, 1)]
    assert infer.main([str(CONFIG), str(checkpoint), *clouds, '--out', str(tmp_path), '--fast']) == 0
    amp, fast, tta = False, True, False
    assert wanted == [(amp, fast, tta)]
    names = [f'00000{k}.{suffix}' for k in (0, 1) for suffix in ('json', 'png', 'txt')]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert sorted(Path(line).name for line in capsys.readouterr().out.split()) == names
