"""The KITTI metric of the test loop: conventions on real frames, frame ids, result files, filters."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.structures import CameraInstance3DBoxes, LiDARInstance3DBoxes
from slow_kitti import line

from perception3d.checks import InputError
from perception3d.formats.kitti.evaluation.metric import KittiFrameMetric
from perception3d.formats.kitti.evaluation.scores import evaluate_folders, flatten
from perception3d.formats.kitti.files import (
    boxes_lidar_from_camera,
    camera_corners,
    read_calibration,
    read_objects,
)
from perception3d.formats.kitti.results import image_boxes
from perception3d.registry import METRICS

CLASSES = ('Pedestrian', 'Cyclist', 'Car')
HW = (375, 1242)
IMG_FROM_CAM = np.array([[720.0, 0, 610, 45], [0, 720, 172, 0.2], [0, 0, 1, 0.003], [0, 0, 0, 1]])
CAM_FROM_LIDAR = np.array([[0, -1.0, 0, 0.02], [0, 0, -1, -0.07], [1, 0, 0, -0.3], [0, 0, 0, 1]])


@pytest.fixture(scope='module')
def real_frames(samples_of) -> Path:
    return samples_of('kitti') / 'training'


def sample(frame: str, boxes: np.ndarray, labels: list[int], scores: list[float] | None = None, **metas) -> dict:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    predicted = dict(
        bboxes_3d=LiDARInstance3DBoxes(torch.from_numpy(boxes).double()),
        labels_3d=torch.tensor(labels, dtype=torch.long),
        scores_3d=torch.tensor(scores or [0.9 - 0.01 * k for k in range(len(boxes))], dtype=torch.float32),
    )
    places = dict(cam_from_lidar=CAM_FROM_LIDAR[None], stored_from_cam=IMG_FROM_CAM[None], stored_hw=[HW])
    return dict(pred_instances_3d=predicted, frame_id=frame, **{**places, **metas})


def run(samples: list[dict], **kwargs) -> dict[str, float]:
    metric = KittiFrameMetric(**kwargs)
    metric.dataset_meta = dict(classes=CLASSES)
    for item in samples:
        metric.process({}, [item])
    return metric.evaluate(len(samples))


def labelled(root: Path, frames: dict[str, list[str]]) -> Path:
    for frame, lines in frames.items():
        (root / f'{frame}.txt').write_text(''.join(f'{text}\n' for text in lines))
    return root


def test_the_truth_of_real_frames_comes_back_from_the_lidar_frame(real_frames: Path, tmp_path: Path):
    samples, frames = [], ['000000', '000001', '000002']
    for frame in frames:
        objects = read_objects(real_frames / 'label_2' / f'{frame}.txt')
        objects = objects.select(np.isin(objects.names, CLASSES))
        calibration = read_calibration(real_frames / 'calib' / f'{frame}.txt')
        boxes = boxes_lidar_from_camera(objects, np.linalg.inv(calibration.cam_from_lidar()))
        metas = dict(
            cam_from_lidar=calibration.cam_from_lidar()[None],
            stored_from_cam=calibration.img_from_cam(2)[None],
        )
        samples.append(sample(frame, boxes, [CLASSES.index(name) for name in objects.names], **metas))
    scores = run(samples, gt_dir=str(real_frames / 'label_2'), format_dir=str(tmp_path / 'out'))
    for frame in frames:
        truth = read_objects(real_frames / 'label_2' / f'{frame}.txt')
        truth = truth.select(np.isin(truth.names, CLASSES))
        found = read_objects(tmp_path / 'out' / f'{frame}.txt', scored=True)
        assert found.names.tolist() == truth.names.tolist()
        for name in ('sizes_m', 'bottom_centers_m', 'rotation_y_rad'):
            assert getattr(found, name) == pytest.approx(getattr(truth, name), abs=0.0051), name
        assert found.alpha_rad == pytest.approx(truth.alpha_rad, abs=0.02)
        assert found.boxes_2d == pytest.approx(truth.boxes_2d, abs=10)

    # As if the labels were the results.
    (tmp_path / 'gt').mkdir()
    for frame in frames:
        lines = (real_frames / 'label_2' / f'{frame}.txt').read_text().splitlines()
        lines = [f'{text} 0.5' for text in lines if text.split()[0] in CLASSES]
        labelled(tmp_path / 'gt', {frame: lines})
    itself = flatten(evaluate_folders(real_frames / 'label_2', tmp_path / 'gt').scores)
    assert itself['3d/car/moderate/R11'] > 0
    assert itself['3d/pedestrian/easy/R11'] == pytest.approx(100 / 11)
    for key, value in itself.items():
        if not key.startswith('aos'):
            assert scores[f'kitti/{key}'] == pytest.approx(value), key
        else:
            assert scores[f'kitti/{key}'] == pytest.approx(value, abs=0.01), key


def test_a_box_is_converted_as_worked_out_by_hand(tmp_path: Path):
    """A car 20.3 m ahead on the ground, heading away; the camera is 0.3 m ahead of the LiDAR and 0.07 m below it."""
    run([sample('000003', [20.3, 0.02, -1.6, 4, 2, 1.5, 0.0], [2], [0.75])], format_dir=str(tmp_path), format_only=True)
    words = (tmp_path / '000003.txt').read_text().split()
    assert words[:3] == ['Car', '-1.00', '-1']
    numbers = [float(word) for word in words[3:]]
    assert numbers[5:] == [1.5, 2, 4, 0, 1.53, 20, -1.57, 0.75]
    assert numbers[0] == -1.57
    # The near face is 18 m away, at x = -1 to 1; the upper edge of the far one, 22 m away, is the highest in the image.
    left, right = ((720 * x + 610 * 18 + 45) / 18.003 for x in (-1, 1))
    top, bottom = ((720 * y + 172 * z + 0.2) / (z + 0.003) for y, z in ((0.03, 22), (1.53, 18)))
    assert numbers[1:5] == pytest.approx([left, top, right, bottom], abs=0.0051)
    assert len(read_objects(tmp_path / '000003.txt', scored=True)) == 1


def test_scores_are_those_of_the_command_on_the_written_files(tmp_path: Path):
    (tmp_path / 'gt').mkdir()
    rng = np.random.default_rng(0)
    samples, frames = [], {}
    for frame in ('000004', '000001', '000009'):
        boxes = rng.uniform([8, -5, -1.8, 3.5, 1.5, 1.4, -3], [30, 5, -1.6, 4.5, 1.8, 1.7, 3], (6, 7))
        frames[frame] = [
            line('Car', 0, 0, (b[5], b[4], b[3]), (0.02 - b[1], -0.07 - b[2], b[0] - 0.3), -b[6] - math.pi / 2)
            for b in boxes + rng.normal(size=(6, 7)) * 0.03
        ]
        samples.append(sample(frame, boxes, [2] * 6, rng.uniform(0, 1, 6).tolist()))
    labelled(tmp_path / 'gt', frames)
    scores = run(samples, gt_dir=str(tmp_path / 'gt'), format_dir=str(tmp_path / 'out'), loose=True)
    again = flatten(evaluate_folders(tmp_path / 'gt', tmp_path / 'out', loose=True).scores)
    assert scores == {f'kitti/{key}': value for key, value in again.items()}
    assert 10 < scores['kitti/3d/car/moderate/R40'] < 50
    assert scores['kitti/3d/mAP/moderate/R40'] == pytest.approx(scores['kitti/3d/car/moderate/R40'] / 3)
    # Frames are known by their names: another order changes nothing, and old files in the folder are not scored.
    (tmp_path / 'out' / '000077.txt').write_text('')
    assert run(samples[::-1], gt_dir=str(tmp_path / 'gt'), format_dir=str(tmp_path / 'out'), loose=True) == scores
    assert run(samples, gt_dir=str(tmp_path / 'gt'), loose=True) == scores


def test_a_frame_without_detections_gets_an_empty_file_and_counts(tmp_path: Path):
    (tmp_path / 'gt').mkdir()
    ahead = line('Car', 0, 0, (1.5, 2, 4), (0, 1.53, 20), -1.57)
    labelled(tmp_path / 'gt', {'000000': [ahead], '000001': [ahead]})
    found = sample('000000', [20.3, 0.02, -1.6, 4, 2, 1.5, 0.0], [2])
    both = [found, sample('000001', np.zeros((0, 7)), [])]
    scores = run(both, gt_dir=str(tmp_path / 'gt'), format_dir=str(tmp_path / 'out'))
    assert (tmp_path / 'out' / '000001.txt').read_text() == ''
    assert scores['kitti/3d/car/hard/R11'] == pytest.approx(100 / 11)
    assert run(both[1:], gt_dir=str(tmp_path / 'gt'))['kitti/3d/mAP/hard/R11'] == 0


def test_only_classes_of_the_benchmark_are_averaged(tmp_path: Path):
    (tmp_path / 'gt').mkdir()
    labelled(tmp_path / 'gt', {'000000': [line('Car', 0, 0, (1.5, 2, 4), (0, 1.53, 20), -1.57)]})
    metric = KittiFrameMetric(gt_dir=str(tmp_path / 'gt'))
    metric.dataset_meta = dict(classes=('Tram', 'Car'))
    metric.process({}, [sample('000000', [20.3, 0.02, -1.6, 4, 2, 1.5, 0.0], [1])])
    scores = metric.evaluate(1)
    assert scores['kitti/3d/mAP/easy/R11'] == scores['kitti/3d/car/easy/R11'] == pytest.approx(100 / 11)
    assert 'kitti/3d/pedestrian/easy/R11' not in scores
    metric.dataset_meta = dict(classes=('Tram', 'Bus'))
    with pytest.raises(InputError, match='none of the classes Tram, Bus is scored'):
        metric.process({}, [])


def names(path: Path) -> list[str]:
    return read_objects(path, scored=True).names.tolist()


def test_boxes_outside_the_image_and_the_range_are_left_out_where_asked(tmp_path: Path):
    boxes = [[20, 0, -1.6, 4, 2, 1.5, 0], [20, 30, -1.6, 4, 2, 1.5, 0], [-20, 0, -1.6, 4, 2, 1.5, 0]]
    boxes += [[20, -3, -3.5, 1, 1, 1.5, 0]]
    item = sample('000000', boxes, [2, 1, 0, 0])
    out, path = dict(format_dir=str(tmp_path), format_only=True), tmp_path / '000000.txt'
    run([item], **out)
    assert names(path) == ['Car', 'Pedestrian']
    run([item], drop_outside_image=False, **out)
    assert names(path) == ['Car', 'Cyclist', 'Pedestrian', 'Pedestrian']
    assert read_objects(path, scored=True).boxes_2d[2].tolist() == [0, 0, 0, 0]
    run([item], limit_range_m=(0, -40, -3, 70.4, 40, 0), **out)
    assert names(path) == ['Car']


def test_the_rectangle_of_a_box_next_to_the_camera_is_that_of_its_visible_part():
    """Against points all over the box: those behind the camera must not count, as mirrored corners would."""
    sizes, places, rotation = np.array([[1.5, 2.0, 6.0]]), np.array([[1.5, 1.6, 1.0]]), np.array([-1.2])
    corners = camera_corners(sizes, places, rotation)
    box, seen = image_boxes(corners, IMG_FROM_CAM, HW)
    a, b, c = np.meshgrid(*[np.linspace(0, 1, 90)] * 3)
    edges = corners[0, [1, 3, 4]] - corners[0, 0]
    points = corners[0, 0] + a[..., None] * edges[0] + b[..., None] * edges[1] + c[..., None] * edges[2]
    points = points.reshape(-1, 3) @ IMG_FROM_CAM[:3, :3].T + IMG_FROM_CAM[:3, 3]
    assert (points[:, 2] < 0).any()
    pixels = points[points[:, 2] > 0.1, :2] / points[points[:, 2] > 0.1, 2:]
    expected = np.concatenate([pixels.min(0).clip(0, HW[::-1]), pixels.max(0).clip(0, HW[::-1])])
    assert seen[0]
    assert box[0] == pytest.approx(expected, abs=3)


def test_predictions_that_are_not_finite_are_left_out(tmp_path: Path):
    boxes = np.tile([20.0, 0, -1.6, 4, 2, 1.5, 0], (3, 1))
    boxes[1, 3] = np.inf
    item = sample('000000', boxes, [2, 2, 2], [0.5, 0.5, math.nan])
    run([item], result_dir=str(tmp_path), format_only=True)
    assert names(tmp_path / '000000.txt') == ['Car']


def test_bad_samples_and_settings_get_one_line(tmp_path: Path):
    (tmp_path / 'gt').mkdir()
    labelled(tmp_path / 'gt', {'000000': []})
    item = sample('000000', [20.0, 0, -1.6, 4, 2, 1.5, 0], [2])
    gt = dict(gt_dir=str(tmp_path / 'gt'))
    with pytest.raises(InputError, match='carry no frame_id, stored_hw: pack them'):
        run([{key: value for key, value in item.items() if key not in ('frame_id', 'stored_hw')}], **gt)
    with pytest.raises(InputError, match=r'000005.txt does not exist: gt_dir must have the labels'):
        run([{**item, 'frame_id': '000005'}], **gt)
    with pytest.raises(InputError, match='frame 000000 was predicted more than once'):
        run([item, item], **gt)
    camera = {**item['pred_instances_3d'], 'bboxes_3d': CameraInstance3DBoxes(torch.zeros(1, 7))}
    with pytest.raises(InputError, match='frame 000000 has CameraInstance3DBoxes: expected LiDARInstance3DBoxes'):
        run([{**item, 'pred_instances_3d': camera}], **gt)
    with pytest.raises(InputError, match='format_only needs format_dir, the folder'):
        KittiFrameMetric(format_only=True)
    with pytest.raises(InputError, match='needs data_root'):
        KittiFrameMetric()
    with pytest.raises(InputError, match='got 4 numbers'):
        KittiFrameMetric('gt', limit_range_m=(0, 1, 2, 3))


def test_configs_name_it():
    metric = METRICS.build(dict(type='KittiFrameMetric', gt_dir='somewhere', loose=True))
    assert isinstance(metric, KittiFrameMetric)
