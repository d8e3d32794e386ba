"""STCrowd's info files, data set, pipeline and results, from a tree with the faults of the release."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from stcrowd_tree import CAMERA, SPLITS, STAND, people_of, write_tree

from perception3d.checks import InputError
from perception3d.datasets.transforms.crowd import CropToSector
from perception3d.files import read_pickle
from perception3d.formats.stcrowd.dataset import STCrowdDataset
from perception3d.formats.stcrowd.files import (
    Frame,
    Person,
    Sequence,
    read_sequence,
    write_sequence,
    write_split,
)
from perception3d.formats.stcrowd.info import create_infos, frame_times, velocities_of
from perception3d.formats.stcrowd.rules import FEW_POINTS, NO_SIZE, OUTSIDE, SITTING
from perception3d.formats.stcrowd.yaw_sign import YawVote, find_yaw_sign
from perception3d.registry import DATASETS, METRICS
from perception3d.structures.boxes import Boxes
from perception3d.structures.tracks import Tracks
from tools import create_data

CONFIG = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'datasets' / 'stcrowd.py'
RELEASED_YAW = -1


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with infos, whose yaws turn from y to x; sequence 34 of `test` has clouds alone. Read only."""
    root = write_tree(tmp_path_factory.mktemp('stcrowd'), RELEASED_YAW)
    shutil.copytree(root / 'pcd' / '33', root / 'pcd' / '34')
    write_split(root / 'split.json', {**SPLITS, 'test': ['34', '36']})
    (root / 'left' / '33' / '33_1.jpg').unlink()
    create_infos(root, RELEASED_YAW, progress=False)
    return root


def infos_of(root: Path, split: str) -> list[dict]:
    return read_pickle(root / f'perception3d_infos_{split}.pkl')['data_list']


def dataset(root: Path, split: str = 'val', **kwargs: object) -> STCrowdDataset:
    return STCrowdDataset(str(root), f'perception3d_infos_{split}.pkl', pipeline=[], **kwargs)


def test_infos_have_who_counts_and_who_is_ignored(tree: Path):
    infos = infos_of(tree, 'train')
    assert [info['frame_id'] for info in infos] == [f'{s}_{k:06d}' for s in ('003', '012') for k in range(3)]
    first = infos[0]
    assert first['scene_token'] == '3' and first['timestamp'] == pytest.approx(1617249430.0)
    walker, standing = first['instances']
    np.testing.assert_allclose(walker['bbox_3d'], [5, 2, -1.45, *STAND, -0.5, 1.25, 0], atol=1e-6)
    assert (walker['track_id'], walker['occlusion'], walker['num_lidar_pts']) == (7, 0, 40)
    np.testing.assert_allclose(standing['bbox_3d'][6:], [-2.0, 0, 0], atol=1e-6)
    assert {box['track_id']: box['reason'] for box in first['ignored']} == {9: SITTING, 10: OUTSIDE, 11: FEW_POINTS}
    # The converter of the release would put a box at the origin.
    assert infos[5]['instances'] == infos[5]['ignored'] == [] and infos[5]['labelled']
    # Of the walker only one neighbouring frame is left here.
    np.testing.assert_allclose(infos[4]['instances'][0]['bbox_3d'][7:], [1.25, 0], atol=1e-6)
    assert [info['labelled'] for info in infos_of(tree, 'test')] == [False] * 3
    assert [sorted(info['images']) for info in infos_of(tree, 'val')] == [['left'], [], ['left']]


def test_create_data_says_what_is_ignored_and_missing(tree: Path, capsys: pytest.CaptureFixture[str]):
    create_data.main(['stcrowd', '--root', str(tree), '--yaw-sign', '-1', '--jobs', '1'])
    text = capsys.readouterr().out
    assert 'yaw sign -1, as given' in text and 'database of train: 10 objects' in text and 'ImageSets' not in text
    for note in (
        'train: 5 of 25 people are ignored: lower than 1.2 m (sitting)',
        'train: 1 labelled frames have nobody who counts',
        'val: 1 of 3 frames have no left image',
        'test: 3 of 3 frames are not labelled',
        'train: neighbours within 2/5/10 m 0.0/0.0/1.0',
    ):
        assert f'note: {note}' in text, note


def test_the_yaw_sign_is_found_from_the_points():
    rng = np.random.default_rng(0)
    for sign in (1, -1):
        boxes = np.column_stack(
            [rng.uniform(3, 30, (40, 2)), np.full(40, -1.5), np.tile(STAND, (40, 1)), rng.uniform(-3, 3, 40)]
        )
        local = rng.uniform(-0.5, 0.5, (40, 50, 3)) * STAND
        cos, sin = np.cos(sign * boxes[:, 6, None]), np.sin(sign * boxes[:, 6, None])
        xy = np.stack([local[..., 0] * cos - local[..., 1] * sin, local[..., 0] * sin + local[..., 1] * cos], -1)
        points = np.concatenate([xy, local[..., 2:] + 0.5 * STAND[2]], -1) + boxes[:, None, :3]
        found, note = find_yaw_sign([(points.reshape(-1, 3), boxes)])
        assert found == sign and f'yaw sign {sign:+d}, found from the points' in note
    assert YawVote().decision()[0] == 1 and 'give --yaw-sign' in YawVote().decision()[1]
    round_boxes = boxes.copy()
    round_boxes[:, 3:5] = 0.6
    assert 'do not tell' in find_yaw_sign([(points.reshape(-1, 3), round_boxes)])[1]


def test_the_yaw_sign_of_a_tree_is_stored(tmp_path: Path):
    root = write_tree(tmp_path, RELEASED_YAW, frames=12)
    assert create_infos(root, progress=False)['yaw_sign'] == RELEASED_YAW
    assert read_pickle(root / 'perception3d_infos_val.pkl')['metainfo']['yaw_sign'] == RELEASED_YAW
    assert dataset(root).yaw_sign == RELEASED_YAW


def test_velocities_are_central_differences_of_tracks():
    def frame(k: int, **places: float) -> Frame:
        return Frame(
            k, f'{k}.bin', tuple(Person(int(name[1:]), (x, 0.0, 0.0), STAND, 0.0) for name, x in places.items())
        )

    rows = velocities_of(
        Sequence('1', (frame(0, p1=0.0, p2=5.0), frame(1, p1=0.4), frame(2, p1=1.2), frame(9, p1=2.0)))
    )
    assert [float(row[0, 0]) for row in rows] == pytest.approx([1.0, 1.5, 2.0, math.nan], nan_ok=True)
    assert np.isnan(rows[0][1]).all()
    nobody = Person(None, (1.0, 0.0, 0.0), STAND, 0.0)
    unknown = velocities_of(Sequence('1', (Frame(0, '', (nobody,)), Frame(1, '', (nobody,)))))
    assert np.isnan(unknown[0]).all()
    stamps = tuple(Frame(k, f'x/{1617249430.5 + 0.8 * k}.bin') for k in range(3))
    assert frame_times(stamps) == pytest.approx([1617249430.5, 1617249431.3, 1617249432.1])


def test_samples_have_people_and_the_camera_where_there_is_an_image(tree: Path):
    frames = dataset(tree, test_mode=True)
    sample = frames[0]
    assert (sample['token'], sample['scene_token']) == ('033_000000', '33') and sample['lidar_path'].endswith('.bin')
    assert sample['img_paths'] == [str(tree / 'left/33/33_0.jpg')] and sample['stored_hw'] == [(18, 32)]
    product = CAMERA.img_from_cam @ CAMERA.cam_from_lidar
    np.testing.assert_allclose(sample['img_from_lidar'], product[None])
    assert 'img_paths' not in frames[1] and 'eval_ann_info' in frames[1]
    people = sample['eval_ann_info']
    assert people['gt_bboxes_3d'].tensor.shape == (2, 9) and people['gt_labels_3d'].tolist() == [0, 0]
    assert people['occlusion'].tolist() == [0, 0] and people['track_ids'].tolist() == [7, 8]
    assert people['ignored_bboxes_3d'].shape == (3, 9) and people['num_lidar_pts'].tolist() == [40, 40]
    empty = dataset(tree, 'train')[5]['ann_info']
    assert empty['gt_bboxes_3d'].tensor.shape == (0, 9) and empty['ignored_bboxes_3d'].shape == (0, 9)
    assert {len(empty[key]) for key in ('gt_labels_3d', 'occlusion', 'track_ids', 'num_lidar_pts')} == {0}
    assert 'eval_ann_info' not in dataset(tree, 'test', test_mode=True)[0]


def test_raw_clouds_get_their_image_by_the_annotations(tree: Path, tmp_path: Path):
    reader = dataset(tree)
    reader.pipeline.transforms.append(type('Load', (), {'load_dim': 4})())
    cloud = sorted((tree / 'pcd' / '12').iterdir())[1]
    (sample,) = reader.sample_from_file(cloud)
    assert sample['scene_token'] == '12' and sample['img_paths'] == [str(tree / 'left/12/12_1.jpg')]
    assert sample['timestamp'] == pytest.approx(1617249430.4)
    alone = tmp_path / '1617249430.8.bin'
    shutil.copy(cloud, alone)
    (sample,) = reader.sample_from_file(alone)
    assert 'img_paths' not in sample and sample['timestamp'] == pytest.approx(1617249430.8)


def test_results_have_the_layout_of_the_annotations(tree: Path, tmp_path: Path):
    frames = dataset(tree, test_mode=True)
    boxes = frames[0]['eval_ann_info']['gt_bboxes_3d']
    predicted = InstanceData(bboxes_3d=boxes, scores_3d=torch.tensor([0.9, 0.5]), labels_3d=torch.zeros(2).long())
    sample = {'token': '033_000000', 'scene_token': '33', 'lidar_path': 'a/b.bin', 'pred_instances_3d': predicted}
    assert frames.write_result(sample, tmp_path / '033_000000.json')
    (frame,) = read_sequence(tmp_path / '033_000000.json', scored=True).frames
    truth = people_of('33', 0)[:2]
    for found, person in zip(frame.people, truth, strict=True):
        # The data's own sign of the yaw.
        np.testing.assert_allclose([*found.center_m, *found.size_m], [*person.center_m, *person.size_m], atol=1e-5)
        assert math.cos(found.yaw_rad - person.yaw_rad) == pytest.approx(1) and found.track_id is None
    tracks = Tracks(Boxes(boxes.tensor.numpy()[:, :7], np.zeros(2, np.int64), scores=np.array([0.8, 0.7])), [3, 9])
    frames.write_result({**sample, 'token': '033_000012', 'pred_tracks': tracks}, tmp_path / 'tracks.json')
    (frame,) = read_sequence(tmp_path / 'tracks.json', scored=True).frames
    # A tracker reports people only after some frames: the result file has the boxes.
    assert frame.frame_id == 12 and [(person.track_id, person.score) for person in frame.people] == [
        (None, pytest.approx(0.9)),
        (None, pytest.approx(0.5)),
    ]
    with pytest.raises(InputError, match='is not a result file and would be lost'):
        frames.write_result(sample, tree / 'anno' / '33.json')


def test_the_metric_of_the_config_takes_the_samples_of_the_data_set(tree: Path, tmp_path: Path):
    init_default_scope('mmdet3d')
    config = Config.fromfile(CONFIG)
    metric = METRICS.build({**config.val_evaluator, 'settings': dict(samples=0), 'format_dir': str(tmp_path)})
    testing = config.val_dataloader.dataset
    testing.data_root = str(tree)
    frames = DATASETS.build(testing)
    metric.dataset_meta = frames.metainfo
    for frame in (frames[k]['data_samples'] for k in range(len(frames))):
        boxes = frame.eval_ann_info['gt_bboxes_3d']
        count = len(boxes)
        found = InstanceData(bboxes_3d=boxes, scores_3d=torch.full((count,), 0.9), labels_3d=torch.zeros(count).long())
        frame.pred_instances_3d = found
        metric.process(None, [frame.to_dict()])
    assert metric.evaluate(len(frames))['stcrowd/map'] == pytest.approx(100)
    written = read_sequence(tmp_path / '33.json', scored=True).frames
    yaw = [math.cos(person.yaw_rad - truth.yaw_rad) for person, truth in zip(written[0].people, people_of('33', 0))]
    assert len(written) == 3 and yaw == pytest.approx([1, 1])


def test_the_pipeline_crops_the_sector_and_moves_the_ignored_people_along(tree: Path):
    init_default_scope('mmdet3d')
    config = Config.fromfile(CONFIG)
    training = config.train_dataloader.dataset
    training.data_root = str(tree)
    for step in training.pipeline:
        if 'rot_range' in step:
            step.update(rot_range=[0.3, 0.3], scale_ratio_range=[1, 1], translation_std=[0, 0, 0])
        elif 'flip_ratio_bev_horizontal' in step:
            step.flip_ratio_bev_horizontal = 1.0
    frames = DATASETS.build(training)
    found = frames[1]
    people = found['data_samples'].gt_instances_3d
    # Those behind the LiDAR are out of range; the sitting one and the one with few points are ignored.
    assert people.labels_3d.tolist() == [0, 0, -1, -1] and people.bboxes_3d.tensor.shape == (4, 9)
    turn = np.array([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    places = np.array([p.center_m[:2] for p in people_of('3', 1) if p.track_id != 10]) * [1, -1] @ turn.T
    np.testing.assert_allclose(people.bboxes_3d.tensor[:, :2], places, atol=1e-4)
    np.testing.assert_allclose(people.bboxes_3d.tensor[0, 7:], turn @ [1.25, 0], atol=1e-4)
    points = found['inputs']['points'].numpy()
    back = points[:, :2] @ turn
    assert len(points) > 120 and (back[:, 0] >= -1e-4).all()
    empty = frames[5]['data_samples'].gt_instances_3d
    assert empty.bboxes_3d.tensor.shape == (0, 9) and empty.labels_3d.tolist() == []
    with pytest.raises(InputError, match='expected more than 0 m'):
        CropToSector(0)


def test_files_that_are_missing_are_counted(tmp_path: Path):
    root = write_tree(tmp_path / 'a')
    for path in list((root / 'pcd' / '12').iterdir())[:2]:
        path.unlink()
    with pytest.raises(InputError, match=r'2 clouds that the annotations ask for are missing in .*pcd/12/'):
        create_infos(root, 1, progress=False)
    (root / 'anno' / '12.json').unlink()
    with pytest.raises(InputError, match=r'1 annotation files that split.json asks for are missing .*12.json'):
        create_infos(root, 1, progress=False)
    assert not (root / 'perception3d_infos_train.pkl').exists()


def test_a_model_of_the_lidar_needs_no_images(tmp_path: Path):
    root = write_tree(tmp_path)
    shutil.rmtree(root / 'left')
    (root / 'camera.json').unlink()
    notes = create_infos(root, 1, progress=False)['splits']['val']['notes']
    assert '3 of 3 frames have no left image' in notes and 'there is no camera.json: frames have no camera' in notes
    assert 'img_paths' not in dataset(root)[0] and len(dataset(root)[0]['ann_info']['gt_labels_3d']) == 2


def test_a_crowd_of_500_and_boxes_of_zero_size(tmp_path: Path):
    root = write_tree(tmp_path, frames=1)
    rng = np.random.default_rng(0)
    places = np.column_stack([rng.uniform(2, 20, 500), rng.uniform(-15, 15, 500)])
    crowd = [Person(k, (float(x), float(y), -0.6), (0.6, 0.6, 1.7), 0.1, 2) for k, (x, y) in enumerate(places)]
    crowd.append(Person(900, (5.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0))
    stored = f'pcd/33/{next((root / "pcd" / "33").iterdir()).name}'
    write_sequence(root / 'anno' / '33.json', Sequence('33', (Frame(0, stored, tuple(crowd)),)))
    content = json.loads((root / 'anno' / '33.json').read_text())
    content['frames'][0]['items'][7].update(id=6, occlusion='unknown')
    (root / 'anno' / '33.json').write_text(json.dumps(content))
    notes = create_infos(root, 1, progress=False)['splits']['val']['notes']
    assert f'1 of 501 people are ignored: {NO_SIZE}' in notes
    assert '2 of 501 people have no known level of occlusion' in notes
    assert '1 of 501 people have no id, or one that is there twice' in notes
    people = dataset(root)[0]['ann_info']
    assert len(people['gt_labels_3d']) + len(people['ignored_bboxes_3d']) == 501
