"""Loading of points, and pasting and moving of objects: what must hold for the boxes, the points and the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmdet3d.engine.hooks import DisableObjectSampleHook
from mmdet3d.structures import LiDARInstance3DBoxes
from mmdet3d.structures.points import LiDARPoints

from perception3d.checks import InputError
from perception3d.datasets.ground_truth_database import new_database, write_database_info, write_objects_of_frame
from perception3d.datasets.transforms import lidar_augment
from perception3d.datasets.transforms.lidar_augment import GroundTruthSampler, MoveObjects, PasteObjects, free_places
from perception3d.datasets.transforms.lidar_loading import CropToImage, LoadCheckedPoints
from perception3d.geometry.iou import bev_overlap
from perception3d.ops.inside_boxes import rows_in_boxes

CLASSES = ('Pedestrian', 'Car')
SIZES = {'Pedestrian': (0.8, 0.6, 1.7), 'Car': (4.0, 1.6, 1.5)}
BEV = [0, 1, 3, 4, 6]


def boxes_at(places: list[tuple[float, float]], name: str = 'Car', yaw: float = 0.3) -> np.ndarray:
    return np.array([[x, y, -1.5, *SIZES[name], yaw] for x, y in places], np.float64).reshape(-1, 7)


def cloud_in(boxes: np.ndarray, per_box: int, rng: np.random.Generator) -> np.ndarray:
    """Points (N, 4) in boxes, whose fourth value is the number of the box."""
    parts = []
    for k, box in enumerate(boxes):
        local = rng.uniform(-0.49, 0.49, (per_box, 3)) * box[3:6] + [0, 0, box[5] / 2]
        cos, sin = np.cos(box[6]), np.sin(box[6])
        turned = local @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + box[:3]
        parts.append(np.column_stack([turned, np.full(per_box, k)]))
    return np.concatenate([np.zeros((0, 4)), *parts]).astype(np.float32)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """40 cars and 6 pedestrians, some of which have few points or count nowhere, on a crowded field."""
    rng = np.random.default_rng(0)
    cars = boxes_at([tuple(place) for place in rng.uniform(-25, 25, (40, 2))])
    people = boxes_at([tuple(place) for place in rng.uniform(-25, 25, (6, 2))], 'Pedestrian')
    boxes = np.vstack([cars, people])
    boxes[:, 6] = rng.uniform(-3, 3, len(boxes))
    names = ['Car'] * 40 + ['Pedestrian'] * 6
    entries = []
    with new_database(tmp_path) as folder:
        for k, (box, name) in enumerate(zip(boxes, names)):
            own = cloud_in(box[None], 4 if k % 10 == 0 else 20, rng)
            level = -1 if k % 10 == 1 else 0
            rows = [np.arange(len(own))]
            entries += write_objects_of_frame(folder, f'{k:06d}', own, box[None], rows, [name], [level])
    write_database_info(tmp_path, entries)
    return tmp_path


def frame(boxes: np.ndarray, labels: list[int], points: np.ndarray) -> dict:
    return {
        'points': LiDARPoints(points.copy(), points_dim=4),
        'gt_bboxes_3d': LiDARInstance3DBoxes(boxes.astype(np.float32)),
        'gt_labels_3d': np.array(labels, np.int64),
    }


def paste(root: Path, **kwargs) -> PasteObjects:
    settings = dict(data_root=str(root), classes=CLASSES, sample_groups=dict(Car=8, Pedestrian=4))
    return PasteObjects({**settings, **kwargs})


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """Overlap areas between different boxes."""
    area = bev_overlap(boxes[:, BEV], boxes[:, BEV])
    np.fill_diagonal(area, 0)
    return area


def test_a_candidate_is_free_if_it_meets_neither_a_box_nor_an_earlier_free_one():
    boxes = boxes_at([(0, 0)], yaw=0.0)
    # Within a box; crossing it without a corner of either inside the other; off; on the third; on the second.
    candidates = boxes_at([(0, 0), (0, 0), (10, 0), (11, 0), (0, 1)], yaw=0.0)
    candidates[0, 3:5] = 0.5, 0.5
    candidates[1, 6] = np.pi / 2
    assert free_places(boxes, candidates).tolist() == [False, False, True, False, False]
    assert free_places(boxes[:0], candidates[2:4]).tolist() == [True, False]
    # The fourth meets only a candidate that is not placed, so that it may stand there.
    chain = boxes_at([(0, 0), (3, 0), (6, 0)], yaw=0.0)
    assert free_places(boxes[:0], chain).tolist() == [True, False, True]


def test_pasted_objects_never_collide_and_bring_their_points(database: Path):
    rng = np.random.default_rng(1)
    own = boxes_at([(0, 0), (12, 5)])
    step = paste(database)
    counts = []
    for seed in range(30):
        np.random.seed(seed)
        ground = np.column_stack([rng.uniform(-30, 30, (2000, 2)), np.full(2000, -1.0), np.full(2000, 99.0)])
        points = np.concatenate([cloud_in(own, 15, rng), ground.astype(np.float32)])
        result = step(frame(own, [1, 1], points))
        boxes = result['gt_bboxes_3d'].tensor.numpy().astype(np.float64)
        labels = result['gt_labels_3d']
        assert len(boxes) == len(labels)
        np.testing.assert_allclose(boxes[:2], own, atol=1e-6)
        assert overlaps(boxes).max() == 0
        assert (labels == 1).sum() <= 8
        assert (labels == 0).sum() <= 4
        cloud = result['points'].tensor.numpy()
        for k, rows in enumerate(rows_in_boxes(cloud, boxes)):
            inside = cloud[rows, 3]
            if k >= 2:
                assert len(rows) in (4, 20)
                assert (inside == 0).all(), 'the ground below a pasted object is gone'
            else:
                assert (inside == k).sum() == 15
        counts.append(len(boxes) - 2)
    assert min(counts) > 2
    assert max(counts) <= 10


def test_what_a_frame_has_already_counts(database: Path):
    own = boxes_at([(0, 10 * k) for k in range(8)])
    step = paste(database, sample_groups=dict(Car=8))
    result = step(frame(own, [1] * 8, cloud_in(own, 5, np.random.default_rng(0))))
    assert len(result['gt_bboxes_3d']) == 8
    assert len(result['points']) == 40


def test_objects_with_few_points_or_of_no_difficulty_are_not_drawn(database: Path):
    everything = GroundTruthSampler(str(database), CLASSES, dict(Car=5), removed_difficulty=())
    assert len(everything.objects['Car']) == 40
    fewer = GroundTruthSampler(str(database), CLASSES, dict(Car=5), min_points=dict(Car=5))
    assert len(fewer.objects['Car']) == 32
    assert all(e['num_points_in_gt'] == 20 and e['difficulty'] == 0 for e in fewer.objects['Car'])


def test_a_draw_depends_on_the_seed_alone_and_reaches_every_object(database: Path):
    def draw(sampler: GroundTruthSampler, seed: int) -> list[list[float]]:
        np.random.seed(seed)
        found = sampler.sample_all(np.zeros((0, 7)), np.zeros(0, np.int64))
        return found['gt_bboxes_3d'].tolist()

    used = GroundTruthSampler(str(database), CLASSES, dict(Car=9), removed_difficulty=())
    seen = {tuple(box) for seed in range(60) for box in draw(used, seed)}
    assert len(seen) == 40
    fresh = GroundTruthSampler(str(database), CLASSES, dict(Car=9), removed_difficulty=())
    assert draw(fresh, 7) == draw(used, 7) != draw(used, 8)


def test_a_frame_without_boxes_gets_objects(database: Path):
    points = np.full((10, 4), 50, np.float32)
    result = paste(database)(frame(np.zeros((0, 7)), [], points))
    assert len(result['gt_bboxes_3d']) > 0
    assert result['gt_labels_3d'].dtype == np.int64


def test_a_class_without_objects_is_reported_and_left_out(database: Path, monkeypatch: pytest.MonkeyPatch):
    said = []
    monkeypatch.setattr(lidar_augment, 'print_log', lambda text, *_: said.append(text))
    sampler = GroundTruthSampler(str(database), (*CLASSES, 'Cyclist'), dict(Cyclist=5, Car=2))
    assert sampler.objects['Cyclist'] == []
    found = sampler.sample_all(np.zeros((0, 7)), np.zeros(0, np.int64))
    assert set(found['gt_labels_3d'].tolist()) == {1}
    assert len(said) == 1
    assert said[0].startswith('no Cyclist in')
    only = GroundTruthSampler(str(database), (*CLASSES, 'Cyclist'), dict(Cyclist=5))
    assert only.sample_all(np.zeros((0, 7)), np.zeros(0, np.int64)) is None


def test_the_ground_plane_lifts_boxes_and_points_alike(database: Path):
    step = paste(database, sample_groups=dict(Car=6))
    step.use_ground_plane = True
    data = frame(np.zeros((0, 7)), [], np.full((1, 4), 90, np.float32))
    # z = 0.1 x + 2
    data['plane'] = np.array([-0.1, 0.0, 1.0, -2.0])
    result = step(data)
    boxes = result['gt_bboxes_3d'].tensor.numpy()
    np.testing.assert_allclose(boxes[:, 2], 0.1 * boxes[:, 0] + 2, atol=1e-4)
    assert all(len(rows) in (4, 20) for rows in rows_in_boxes(result['points'].tensor.numpy(), boxes))


def test_wrong_names_and_a_damaged_database_are_refused(database: Path, tmp_path: Path):
    with pytest.raises(InputError, match="'Cra': did you mean 'Car'"):
        paste(database, sample_groups=dict(Cra=5))
    with pytest.raises(InputError, match='create_data.py kitti'):
        paste(tmp_path / 'nowhere')
    step = paste(database, sample_groups=dict(Car=30), min_points=dict(Car=5))
    for path in (database / 'perception3d_gt_database').iterdir():
        path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(InputError, match='has 19 points, its table says 20'):
        step(frame(np.zeros((0, 7)), [], np.zeros((1, 4), np.float32)))


def test_pasting_ends_with_mmdet3ds_hook(database: Path):
    class Fake:
        pass

    step = paste(database)
    runner, data = Fake(), Fake()
    data.pipeline = Fake()
    data.pipeline.transforms = [step]
    runner.epoch, runner.model, runner.logger = 3, Fake(), Fake()
    runner.logger.info = lambda _text: None
    runner.train_dataloader = Fake()
    runner.train_dataloader.dataset = Fake()
    runner.train_dataloader.dataset.dataset = data
    DisableObjectSampleHook(disable_after_epoch=3).before_train_epoch(runner)
    result = step(frame(np.zeros((0, 7)), [], np.zeros((1, 4), np.float32)))
    assert len(result['gt_bboxes_3d']) == 0


def test_moved_objects_keep_their_points_and_meet_no_other():
    rng = np.random.default_rng(2)
    own = boxes_at([(0, 0), (5, 0), (10, 0), (0, 4), (40, 40)])
    moved_far, turned = [], []
    for seed in range(40):
        np.random.seed(seed)
        points = np.concatenate([cloud_in(own, 20, rng), np.full((5, 4), 99, np.float32)])
        result = MoveObjects()(frame(own, [1] * 5, points))
        boxes = result['gt_bboxes_3d'].tensor.numpy().astype(np.float64)
        cloud = result['points'].tensor.numpy()
        assert overlaps(boxes).max() == 0
        for k, rows in enumerate(rows_in_boxes(cloud, boxes)):
            assert set(rows) >= set(range(20 * k, 20 * k + 20))
        np.testing.assert_array_equal(cloud[-5:], points[-5:])
        np.testing.assert_array_equal(cloud[:, 3], points[:, 3])
        np.testing.assert_allclose(boxes[:, 3:6], own[:, 3:6], rtol=1e-6)
        moved_far.append(boxes[4, :3] - own[4, :3])
        turned.append(boxes[4, 6] - own[4, 6])
    # The last box stands alone, so that its first try is taken: plain draws.
    assert np.abs(np.std(moved_far, axis=0) / [1, 1, 0.5] - 1).max() < 0.35
    assert max(np.abs(turned)) <= 0.7854
    assert min(turned) < -0.4 < 0.4 < max(turned)


def test_an_object_without_a_free_place_stays():
    np.random.seed(0)
    own = boxes_at([(0, 0), (0.1, 0.1)])
    points = cloud_in(own, 10, np.random.default_rng(0))
    result = MoveObjects(translation_std_m=(0.01, 0.01, 0.01), rot_range_rad=(0.0, 0.0))(frame(own, [1, 1], points))
    np.testing.assert_allclose(result['gt_bboxes_3d'].tensor, own, atol=1e-6)
    np.testing.assert_array_equal(result['points'].tensor, points)
    empty = MoveObjects()(frame(np.zeros((0, 7)), [], points))
    np.testing.assert_array_equal(empty['points'].tensor, points)


def test_points_are_loaded_from_raw_and_numpy_files(tmp_path: Path):
    points = np.random.default_rng(0).normal(size=(50, 5))
    np.save(tmp_path / 'a.npy', points)
    points.astype(np.float32).tofile(tmp_path / 'a.bin')
    for name in ('a.npy', 'a.bin'):
        load = LoadCheckedPoints(load_dim=5, use_dim=4)
        found = load({'lidar_points': {'lidar_path': str(tmp_path / name)}})['points']
        np.testing.assert_array_equal(found.tensor, points[:, :4].astype(np.float32))
    some = LoadCheckedPoints(load_dim=5, use_dim=[0, 1, 2, 4])
    found = some({'lidar_points': {'lidar_path': str(tmp_path / 'a.bin')}})['points']
    np.testing.assert_array_equal(found.tensor[:, 3], points[:, 4].astype(np.float32))
    with pytest.raises(InputError, match='use_dim 6 asks for more than the load_dim 5'):
        LoadCheckedPoints(load_dim=5, use_dim=6)


def test_the_crop_keeps_what_lies_in_the_image():
    # A camera along x: u = 10 - 10 y / x, v = 5 - 10 z / x.
    matrix = np.array([[10.0, -10, 0, 0], [5, 0, -10, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    points = np.array([[10, 0, 0, 1], [-10, 0, 0, 2], [10, 9, 0, 3], [10, 11, 0, 4], [10, 0, 6, 5], [10, 0, -4, 6]])
    data = {'points': LiDARPoints(points.astype(np.float32), points_dim=4)}
    data.update(img_from_lidar=matrix[None], stored_hw=[(10, 20)])
    assert CropToImage()(data)['points'].tensor[:, 3].tolist() == [1, 3, 6]
