"""Augmentation keeps pictures, boxes and matrices together; bad files are named."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import LoadAnnotations3D, ObjectNameFilter, ObjectRangeFilter
from mmdet3d.structures import LiDARInstance3DBoxes
from mmdet3d.structures.points import LiDARPoints

from perception3d.checks import InputError
from perception3d.datasets.transforms import camera_loading
from perception3d.datasets.transforms.camera_augment import BEVAugment, ImageAugment, ImagePlan
from perception3d.datasets.transforms.camera_loading import LoadMultiViewHistory, update_matrices
from perception3d.datasets.transforms.camera_packing import PackCameraInputs
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.geometry.camera import rigid, transform

RAW_WH = (320, 180)


def camera_sample(rng: np.random.Generator, cameras: int = 4) -> dict:
    """A sample of cameras around the origin, with boxes and points; matrices as after loading."""
    forward = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    cam_from_lidar = []
    for index in range(cameras):
        turn = rigid([math.cos(index * math.pi / cameras), 0, 0, math.sin(index * math.pi / cameras)], [0, 0, 0])
        cam = np.eye(4)
        cam[:3, :3] = forward @ turn[:3, :3]
        cam[:3, 3] = rng.normal(size=3) * 0.3
        cam_from_lidar.append(cam)
    intrinsics = np.array([[250.0, 0, 163], [0, 251, 88], [0, 0, 1]])
    count = 40
    boxes = np.concatenate(
        [
            rng.uniform([-45, -45, -2], [45, 45, 1], (count, 3)),
            rng.uniform(0.5, 6, (count, 3)),
            rng.uniform(-4, 4, (count, 1)),
            rng.normal(size=(count, 2)) * 5,
        ],
        axis=1,
    )
    boxes[::5, 7:] = np.nan
    stored_from_cam = np.eye(4)
    stored_from_cam[:3, :3] = intrinsics
    sample = {
        'stored_hw': [RAW_WH[::-1]] * cameras,
        'img': [rng.integers(0, 255, (RAW_WH[1], RAW_WH[0], 3), np.uint8) for _ in range(cameras)],
        'stored_from_cam': np.tile(stored_from_cam, (cameras, 1, 1)),
        'cam_from_lidar': np.array(cam_from_lidar),
        'img_from_stored': np.broadcast_to(np.eye(4), (cameras, 4, 4)).copy(),
        'gt_bboxes_3d': LiDARInstance3DBoxes(torch.from_numpy(boxes).float(), box_dim=9),
        'gt_labels_3d': np.zeros(count, np.int64),
        'points': LiDARPoints(torch.from_numpy(rng.uniform(-40, 40, (100, 4))).float(), points_dim=4),
    }
    update_matrices(sample)
    return sample


def corners_of(boxes: LiDARInstance3DBoxes) -> np.ndarray:
    """Corners (M*8, 3) in float64 by their definition: l along yaw, w across, h up from the bottom."""
    x, y, z, length, width, height, yaw = boxes.tensor[:, :7].double().numpy().T
    found = []
    for sx, sy, up in [(sx, sy, up) for sx in (-0.5, 0.5) for sy in (-0.5, 0.5) for up in (0, 1)]:
        dx, dy = sx * length, sy * width
        found.append(
            np.stack(
                [x + np.cos(yaw) * dx - np.sin(yaw) * dy, y + np.sin(yaw) * dx + np.cos(yaw) * dy, z + up * height], 1
            )
        )
    return np.stack(found, 1).reshape(-1, 3)


def project(points: np.ndarray, img_from_lidar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (C, N, 2), NaN behind the camera, and depths (C, N) of points (N, 3) in C images."""
    scaled = transform(points, img_from_lidar)
    depth = scaled[..., 2]
    return scaled[..., :2] / np.where(depth > 0, depth, np.nan)[..., None], depth


def sorted_by_corner(uv: np.ndarray) -> np.ndarray:
    """Corners of each box (C, M, 8, 2) in an order that does not depend on a mirror of the box."""
    order = np.lexsort((uv[..., 1].round(2), uv[..., 0].round(2)), axis=-1)
    return np.take_along_axis(uv, order[..., None], axis=2)


@pytest.mark.parametrize('seed', range(12))
def test_a_corner_of_a_box_hits_its_transformed_pixel(seed: int):
    np.random.seed(seed)
    sample = camera_sample(np.random.default_rng(seed))
    before_uv, before_depth = project(corners_of(sample['gt_bboxes_3d']), sample['img_from_lidar'])
    BEVAugment()(sample)
    ImageAugment((96, 192))(sample)
    after_uv, after_depth = project(corners_of(sample['gt_bboxes_3d']), sample['img_from_lidar'])

    # What the images did to pixels, applied to where the corners were before any augmentation.
    post = sample['img_from_stored'][:, :3, :3]
    expected = np.concatenate([before_uv, np.ones((*before_uv.shape[:2], 1))], -1) @ post.transpose(0, 2, 1)
    shape = (len(before_uv), -1, 8, 2)
    in_front = (before_depth.reshape(shape[:3]) > 5).all(-1)
    assert in_front.sum() > 20
    expected = sorted_by_corner(expected[..., :2].reshape(shape)[in_front][None])
    found = sorted_by_corner(after_uv.reshape(shape)[in_front][None])
    assert np.abs(expected - found).max() < 1e-3
    np.testing.assert_allclose(np.sort(after_depth), np.sort(before_depth), atol=1e-3)


@pytest.mark.parametrize('seed', range(6))
def test_points_and_velocities_follow_the_matrix(seed: int):
    np.random.seed(seed)
    sample = camera_sample(np.random.default_rng(seed))
    boxes, points = sample['gt_bboxes_3d'].tensor.double().numpy(), sample['points'].tensor.double().numpy()
    BEVAugment()(sample)
    matrix = sample['aug_from_lidar']
    moved = sample['gt_bboxes_3d'].tensor.double().numpy()
    np.testing.assert_allclose(
        sample['points'].tensor[:, :3], points[:, :3] @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-4
    )
    np.testing.assert_allclose(sample['points'].tensor[:, 3], points[:, 3], atol=1e-6)
    np.testing.assert_allclose(moved[:, 7:], boxes[:, 7:] @ matrix[:2, :2].T, atol=1e-4)
    assert np.isnan(moved[::5, 7:]).all()
    assert not np.isnan(moved[1::5]).any()
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], 1) @ matrix[:2, :2].T
    difference = np.arctan2(heading[:, 1], heading[:, 0]) - moved[:, 6]
    np.testing.assert_allclose(np.cos(difference), 1, atol=1e-9)
    assert 0.94 < np.cbrt(abs(np.linalg.det(matrix[:3, :3]))) < 1.06


@pytest.mark.parametrize(('flip_x', 'flip_y'), [(1, 0), (0, 1), (1, 1)])
def test_bev_flips_are_mirrors(flip_x: int, flip_y: int):
    sample = camera_sample(np.random.default_rng(0))
    before = sample['gt_bboxes_3d'].tensor.clone()
    BEVAugment(flip_x, flip_y, (0, 0), (1, 1), 0.0)(sample)
    signs = torch.tensor([-1.0 if flip_x else 1, -1.0 if flip_y else 1])
    torch.testing.assert_close(sample['gt_bboxes_3d'].tensor[:, :2], before[:, :2] * signs)
    torch.testing.assert_close(sample['gt_bboxes_3d'].tensor[:, 7:], before[:, 7:] * signs, equal_nan=True)


@pytest.mark.parametrize('seed', range(10))
def test_the_image_matrix_is_the_composition_of_the_sheet(seed: int):
    """Against R, t built step by step: resize, crop, flip, rotation about the centre of the crop."""
    rng = np.random.default_rng(seed)
    width, height = 192, 96
    plan = ImagePlan((200 + seed, 120), (7, -4), (width, height), bool(seed % 2), rng.uniform(-0.1, 0.1))
    rotation, shift = np.diag([plan.resized_wh[0] / RAW_WH[0], 120 / RAW_WH[1]]), -np.array([7.0, -4.0])
    if plan.flip:
        mirror = np.diag([-1.0, 1.0])
        rotation, shift = mirror @ rotation, mirror @ shift + [width, 0]
    cos, sin = math.cos(plan.rotate_rad), math.sin(plan.rotate_rad)
    turn, centre = np.array([[cos, sin], [-sin, cos]]), np.array([width / 2, height / 2])
    rotation, shift = turn @ rotation, turn @ shift + (centre - turn @ centre)
    np.testing.assert_allclose(plan.matrix(RAW_WH)[:2], np.column_stack([rotation, shift]), atol=1e-9)


@pytest.mark.parametrize('seed', range(40))
def test_a_bright_dot_is_found_where_the_matrix_says(seed: int):
    """A smooth dot is drawn into the raw picture; its centre of mass in the final picture is at the predicted pixel."""
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    augment = ImageAugment((96, 192), test_mode=seed % 8 == 0, flip=seed % 16 == 0)
    plan = augment.plan(RAW_WH)
    where = rng.uniform([100, 60], [220, 120])
    columns, rows = np.meshgrid(np.arange(RAW_WH[0]) + 0.5, np.arange(RAW_WH[1]) + 0.5)
    dot = 250 * np.exp(-((columns - where[0]) ** 2 + (rows - where[1]) ** 2) / (2 * 4.0**2))
    final = plan.apply(np.repeat(dot[..., None], 3, 2).astype(np.uint8))[..., 0].astype(float)
    assert final.shape == (96, 192)
    expected = (plan.matrix(RAW_WH) @ [*where, 1])[:2]
    assert final.max() > 150
    columns, rows = np.meshgrid(np.arange(192) + 0.5, np.arange(96) + 0.5)
    found = np.array([(columns * final).sum(), (rows * final).sum()]) / final.sum()
    assert np.abs(found - expected).max() < 0.15


def test_without_rotation_pixels_are_those_of_the_resized_image():
    image = np.random.default_rng(0).integers(0, 255, (900, 1600, 3), np.uint8)
    plan = ImageAugment((256, 704), test_mode=True).plan((1600, 900))
    assert (plan.resized_wh, plan.crop_xy, plan.flip, plan.rotate_rad) == ((704, 396), (0, 70), False, 0.0)
    halved = image.reshape(450, 2, 800, 2, 3).mean((1, 3)).round().astype(np.uint8)
    resized = cv2.resize(halved, (704, 396), interpolation=cv2.INTER_LINEAR)
    flipped = ImageAugment((256, 704), test_mode=True, flip=True).plan((1600, 900))
    # Means of four that end in .5 may round either way.
    difference = np.abs(plan.apply(image).astype(int) - resized[70 : 70 + 256])
    assert difference.max() <= 2
    assert difference.mean() < 0.3
    np.testing.assert_array_equal(plan.apply(image)[:, ::-1], flipped.apply(image))
    small = cv2.resize(image, (880, 495), interpolation=cv2.INTER_LINEAR)
    plan = ImageAugment((320, 880), test_mode=True).plan((1600, 900))
    np.testing.assert_array_equal(plan.apply(image), small[87 : 87 + 320])


@pytest.mark.parametrize(('final_hw', 'top'), [((256, 704), 70), ((320, 880), 87), ((512, 1408), 140)])
def test_the_centred_crop_of_the_released_configs(final_hw: tuple[int, int], top: int):
    assert ImageAugment(final_hw, test_mode=True).plan((1600, 900)).crop_xy == (0, top)


@pytest.mark.parametrize('crop_xy', [(-10, 5), (200, 100), (-300, 0), (400, 0), (0, 500)])
@pytest.mark.parametrize('rotate_rad', [0.0, 1e-9])
def test_what_lies_outside_the_image_is_black(crop_xy: tuple[int, int], rotate_rad: float):
    image = np.full((180, 320, 3), 200, np.uint8)
    final = ImagePlan(RAW_WH, crop_xy, (192, 96), rotate_rad=rotate_rad).apply(image)
    columns, rows = np.arange(192) + crop_xy[0], np.arange(96) + crop_xy[1]
    inside = ((columns >= 0) & (columns < 320))[None] & ((rows >= 0) & (rows < 180))[:, None]
    np.testing.assert_array_equal(final[..., 0] > 0, inside)


def test_every_image_draws_for_itself_and_test_mode_draws_nothing():
    np.random.seed(0)
    sample = camera_sample(np.random.default_rng(0))
    ImageAugment((96, 192))(sample)
    assert len({post.tobytes() for post in sample['img_from_stored']}) == 4
    state = np.random.get_state()[1].copy()
    for flip in (False, True):
        sample = camera_sample(np.random.default_rng(0))
        ImageAugment((96, 192), test_mode=True, flip=flip)(sample)
        assert len({post.tobytes() for post in sample['img_from_stored']}) == 1
        assert (sample['img_from_stored'][0, 0, 0] < 0) == flip
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def load(tree: Path, **kwargs) -> MultiFrameNuScenesDataset:
    return MultiFrameNuScenesDataset(str(tree), 'perception3d_infos_hand_train.pkl', **kwargs)


def test_loading_gives_every_image_and_reads_a_repeated_file_once(nuscenes_tree: Path, monkeypatch: pytest.MonkeyPatch):
    dataset, reads = load(nuscenes_tree), []
    original = camera_loading.read_image

    def counting(path: str) -> np.ndarray:
        reads.append(path)
        return original(path)

    monkeypatch.setattr(camera_loading, 'read_image', counting)
    for index, distinct in [(0, 4), (1, 8), (4, 16)]:
        reads.clear()
        sample = LoadMultiViewHistory()(dataset.get_data_info(index))
        assert len(reads) == len(set(reads)) == distinct
        assert len(sample['img']) == 16
        for image, path in zip(sample['img'], sample['img_paths']):
            np.testing.assert_array_equal(image, cv2.imread(path))
        expected = sample['stored_from_cam'] @ sample['cam_from_lidar']
        np.testing.assert_allclose(sample['img_from_lidar'], expected)
        threaded = LoadMultiViewHistory(threads=3)(dataset.get_data_info(index))
        assert all((a == b).all() for a, b in zip(sample['img'], threaded['img']))


def test_a_reduced_decode_keeps_the_matrices_true(nuscenes_tree: Path):
    dataset, augment = load(nuscenes_tree, num_frames=1), ImageAugment((24, 40), test_mode=True)
    full = augment(LoadMultiViewHistory()(dataset.get_data_info(0)))
    small = LoadMultiViewHistory(reduce=2)(dataset.get_data_info(0))
    height, width = dataset.get_data_info(0)['stored_hw'][0]
    assert small['img'][0].shape[:2] == (height // 2, width // 2)
    small = augment(small)
    np.testing.assert_allclose(small['img_from_lidar'], full['img_from_lidar'])
    for a, b in zip(small['img'], full['img']):
        assert a.shape == b.shape
        assert np.abs(a.astype(int) - b.astype(int)).mean() < 6


def sample_with_files(tree: Path, tmp_path: Path) -> dict:
    """A sample whose first image and LiDAR sweep are copies that a test may damage."""
    sample = load(tree).get_data_info(2)
    for key, name in (('img_paths', 'first.jpg'), ('lidar_path', 'sweep.bin')):
        source = sample[key][0] if key == 'img_paths' else sample[key]
        (tmp_path / name).write_bytes(Path(source).read_bytes())
    sample['img_paths'][0] = str(tmp_path / 'first.jpg')
    sample['lidar_path'] = str(tmp_path / 'sweep.bin')
    return sample


def test_bad_images_are_named(nuscenes_tree: Path, tmp_path: Path):
    sample = sample_with_files(nuscenes_tree, tmp_path)
    first = tmp_path / 'first.jpg'
    whole = first.read_bytes()
    image = cv2.imread(str(first))
    cv2.imwrite(str(first), image[:, :-8])
    with pytest.raises(InputError, match='first.jpg is 88x54 pixels, but its table says 96x54'):
        LoadMultiViewHistory()(sample)
    first.write_bytes(whole[:20])
    with pytest.raises(InputError, match='first.jpg does not decode'):
        LoadMultiViewHistory()(sample)
    first.unlink()
    with pytest.raises(InputError, match='first.jpg does not exist'):
        LoadMultiViewHistory(threads=2)(sample)


def test_the_whole_pipeline_packs_what_models_read(nuscenes_tree: Path):
    np.random.seed(0)
    pipeline = [
        dict(type=LoadMultiViewHistory),
        dict(type=LoadCheckedPoints, coord_type='LIDAR', load_dim=5, use_dim=4),
        dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
        dict(type=BEVAugment),
        dict(type=ImageAugment, final_hw=(32, 64)),
        dict(type=ObjectRangeFilter, point_cloud_range=[-50, -50, -5, 50, 50, 3]),
        dict(type=ObjectNameFilter, classes=MultiFrameNuScenesDataset.METAINFO['classes']),
        dict(type=PackCameraInputs, keys=['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d']),
    ]
    # The bicycles' and racks' neighbours: sample 1 has the pedestrian that was seen once.
    packed = load(nuscenes_tree, pipeline=pipeline, num_frames=2)[1]
    assert packed['inputs']['img'].shape == (8, 3, 32, 64)
    assert packed['inputs']['img'].dtype == torch.uint8
    assert packed['inputs']['points'].shape == (50, 4)
    data = packed['data_samples']
    assert data.img_from_lidar.shape == (8, 4, 4)
    assert (data.num_frames, len(data.cam_names), len(data.img_paths)) == (2, 4, 8)
    np.testing.assert_allclose(data.img_from_lidar, data.img_from_stored @ data.stored_from_cam @ data.cam_from_lidar)
    assert {
        'token',
        'scene_token',
        'global_from_ego',
        'ego_from_lidar',
        'lidar_path',
        'box_type_3d',
        'box_mode_3d',
    } <= set(data.metainfo_keys())
    boxes = data.gt_instances_3d.bboxes_3d.tensor
    unknown = torch.isnan(boxes[:, 7:]).all(1)
    assert unknown.sum() == 1
    assert data.gt_instances_3d.labels_3d[unknown].tolist() == [7]
