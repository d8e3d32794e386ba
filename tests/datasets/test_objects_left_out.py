"""Frames without objects stay; what is left out, and that nothing is left, is said by everything that reads labels."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kitti_tree import KittiTree
from mmdet3d.datasets.transforms import LoadAnnotations3D, ObjectRangeFilter, Pack3DDetInputs, RandomFlip3D
from mmengine.dataset import Compose, ConcatDataset, RepeatDataset

from perception3d.apis.browse import training_sample
from perception3d.apis.formats import find_command
from perception3d.checks import InputError
from perception3d.datasets.balanced import SeededCBGSDataset
from perception3d.datasets.object_count import ObjectCount, object_range
from perception3d.datasets.transforms.lidar_augment import MoveObjects, PasteObjects
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.engine.object_report import report_objects
from perception3d.engine.runner import PerceptionRunner
from perception3d.evaluation.notes import describe_ignored
from perception3d.formats.custom_boxes.dataset import PointBoxDataset
from perception3d.formats.custom_boxes.info import create_infos
from perception3d.formats.kitti.dataset import KittiFrameDataset
from perception3d.formats.kitti.evaluation.scores import evaluate_folders, table
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.evaluation.scores import evaluate_boxes
from perception3d.formats.nuscenes.files import open_tables
from perception3d.formats.nuscenes.info.build import create_infos as create_nuscenes

RANGE_M = [-50, -50, -5, 50, 50, 3]


def write_clouds(root: Path, frames: dict[str, list[tuple[float, float, str]]]) -> Path:
    """A LiDAR-only tree: every object is 4 x 2 x 2 m and has points."""
    generator = np.random.default_rng(0)
    for folder in ('points', 'labels', 'ImageSets'):
        (root / folder).mkdir(parents=True)
    for name, objects in frames.items():
        parts = [generator.uniform([-40, -40, -2, 0], [40, 40, 0, 1], (50, 4))]
        parts += [generator.uniform(-0.5, 0.5, (20, 4)) + [x, y, 0, 0.5] for x, y, _ in objects]
        np.concatenate(parts).astype(np.float32).tofile(root / f'points/{name}.bin')
        lines = (f'{x} {y} 0 4 2 2 0 {kind}\n' for x, y, kind in objects)
        (root / f'labels/{name}.txt').write_text(''.join(lines))
    (root / 'ImageSets/train.txt').write_text('\n'.join(frames))
    return root


def dataset_of(root: Path, **settings) -> PointBoxDataset:
    sampler = dict(data_root=str(root), classes=['Car'], sample_groups=dict(Car=0))
    steps = [
        dict(type=LoadCheckedPoints),
        dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True),
        dict(type=PasteObjects, db_sampler=sampler),
        dict(type=MoveObjects),
        dict(type=RandomFlip3D, flip_ratio_bev_horizontal=0.5),
        dict(type=ObjectRangeFilter, point_cloud_range=RANGE_M),
        dict(type=Pack3DDetInputs, keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=['frame_id']),
    ]
    settings = {'metainfo': dict(classes=['Car']), 'pipeline': steps, **settings}
    return PointBoxDataset(str(root), 'perception3d_infos_train.pkl', **settings)


@pytest.fixture(scope='module')
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One frame without objects, one whose only car is far away, one with a car and two vans."""
    frames = {'none': [], 'far': [(300, 0, 'Car')], 'full': [(10, 0, 'Car'), (20, 5, 'Van'), (20, -5, 'Van')]}
    root = write_clouds(tmp_path_factory.mktemp('mixed'), frames)
    create_infos(root, progress=False)
    return root


def test_frames_without_objects_stay(mixed: Path):
    dataset = dataset_of(mixed)
    for _ in range(3):
        samples = [dataset[k]['data_samples'] for k in range(3)]
        assert [sample.frame_id for sample in samples] == ['none', 'far', 'full']
        assert [len(sample.gt_instances_3d.bboxes_3d) for sample in samples] == [0, 0, 1]
        assert samples[0].gt_instances_3d.bboxes_3d.tensor.shape == (0, 7)
        assert samples[0].gt_instances_3d.labels_3d.shape == (0,)


def test_who_asks_for_it_gets_another_frame(mixed: Path):
    dataset = dataset_of(mixed, filter_empty_gt=True)
    assert {dataset[0]['data_samples'].frame_id for _ in range(5)} == {'full'}


def test_a_training_says_what_it_leaves_out(mixed: Path, monkeypatch: pytest.MonkeyPatch):
    printed: list[str] = []
    monkeypatch.setattr('perception3d.engine.object_report.print_log', lambda text, *rest: printed.append(text))
    dataset = RepeatDataset(dataset_of(mixed), 2)
    report_objects(dataset)
    notes = dataset.dataset.object_count.notes()
    assert (
        printed == notes
        and len(notes) == 2
        and all(note.startswith(f'{mixed}/perception3d_infos_train.pkl: ') for note in notes)
    )
    assert notes[0].endswith(
        '2 of 4 objects are left out: their class is not among the classes of the data set (Van 2)'
    )
    assert '1 of 2 objects lie outside the range of ObjectRangeFilter (x -50 to 50 m, y -50 to 50 m)' in notes[1]


def test_no_object_in_range_is_one_line_before_the_training(tmp_path: Path, mixed: Path):
    far = write_clouds(tmp_path / 'far', {'a': [(300, 0, 'Car')], 'b': [(0, 310, 'Car')]})
    create_infos(far, progress=False)
    none = write_clouds(tmp_path / 'none', {'a': [(5, 0, 'Van')], 'b': []})
    create_infos(none, ['Van'], progress=False)
    lost, empty = dataset_of(far), dataset_of(none, metainfo=dict(classes=['Van']), pipeline=[])
    empty.object_count = ObjectCount('infos.pkl')
    with pytest.raises(InputError, match=r'far.*no object to train on: all 2 objects lie outside .*x -50 to 50 m'):
        report_objects(lost)
    with pytest.raises(InputError, match='infos.pkl has no object to train on: write labels'):
        report_objects(empty)
    bare = write_clouds(tmp_path / 'bare', {'a': [], 'b': []})
    create_infos(bare, progress=False)
    with pytest.raises(InputError, match='infos_train.pkl has no object to train on: write labels'):
        report_objects(dataset_of(bare, pipeline=[]))
    # Joined with data that has objects, or where only the augmentation brings them into range, training continues.
    report_objects(ConcatDataset([lost, dataset_of(mixed)]))
    near = ObjectCount('infos.pkl', RANGE_M)
    near.add('Car')
    near.add_places(np.array([[60.0, 10.0]]))
    assert near.nothing_to_train_on() is None and '1 of 1 objects lie outside' in near.notes()[0]


def test_a_runner_looks_before_it_trains(monkeypatch: pytest.MonkeyPatch):
    runner = object.__new__(PerceptionRunner)
    runner._train_loop = runner._val_loop = runner._test_loop = None
    dataset = SimpleNamespace(dataset=SimpleNamespace(object_count=ObjectCount('infos.pkl')))
    monkeypatch.setattr(PerceptionRunner, 'train_loop', SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)))
    with pytest.raises(InputError, match='infos.pkl has no object to train on'):
        runner.train()


def test_a_frame_without_objects_is_drawn(mixed: Path):
    assert training_sample(dataset_of(mixed), 0).picture(480).shape[1] == 480


def test_ranges_are_found_inside_of_steps():
    inner = Compose([dict(type=ObjectRangeFilter, point_cloud_range=RANGE_M)])

    class Holder:
        def __init__(self):
            self.student = inner

        def __call__(self, results):
            return results

    assert object_range(Compose([Holder()])).tolist() == RANGE_M
    assert object_range(Compose([])) is None


def test_empty_2d_boxes_are_reported_by_all(tmp_path: Path, capsys: pytest.CaptureFixture):
    tree = KittiTree(tmp_path)
    tree.write({'train': ['000000', '000001'], 'val': ['000003'], 'trainval': ['000000', '000001', '000003']})
    labels = sorted((tmp_path / 'training/label_2').glob('*.txt'))
    counted = 0
    for path in labels:
        rows = [line.split() for line in path.read_text().splitlines()]
        for row in rows:
            if row[0] != 'DontCare':
                row[4:8] = ['0'] * 4
                counted += row[0] in ('Car', 'Pedestrian', 'Cyclist')
        path.write_text('\n'.join(' '.join(row) for row in rows) + '\n')
    find_command('kitti', 'create_data').run(
        Namespace(root=str(tmp_path), jobs=1, sensors=['camera', 'lidar'], image_size=[1242, 375])
    )
    printed = capsys.readouterr().out
    assert printed.count('have a 2D box without height: they are neither pasted into other frames nor scored') == 3
    dataset = KittiFrameDataset(str(tmp_path), 'perception3d_infos_train.pkl')
    assert any('have a 2D box without height' in note for note in dataset.object_count.notes())
    report_objects(dataset)
    results = tmp_path / 'results'
    results.mkdir()
    for path in labels:
        lines = [line for line in path.read_text().splitlines() if not line.startswith('DontCare')]
        (results / path.name).write_text(''.join(f'{line} 0.9\n' for line in lines))
    result = evaluate_folders(tmp_path / 'training/label_2', results)
    assert sum(result.ignored['their 2D box has no height'].values()) == counted > 0
    assert f'note: {counted} objects are not scored, since their 2D box has no height: ' in table(result)


def test_boxes_without_lidar_points_are_reported_by_all(nuscenes_tree: Path, tmp_path: Path):
    root = tmp_path / 'tree'
    shutil.copytree(nuscenes_tree, root)
    path = root / 'v1.0-hand/sample_annotation.json'
    rows = json.loads(path.read_text())
    for row in rows:
        row.update(num_lidar_pts=0, num_radar_pts=0)
    path.write_text(json.dumps(rows))
    summary = create_nuscenes(root, progress=False)
    entry = summary['hand_train']
    boxes = sum(entry['classes'].values())
    assert entry['notes'][:2] == [
        f'{boxes} of {boxes} boxes have no LiDAR point (num_lidar_pts is 0): training leaves them out',
        f'{boxes} of {boxes} boxes have no LiDAR or radar point: the evaluation leaves them out',
    ]
    dataset = MultiFrameNuScenesDataset(str(root), entry['path'].name, num_frames=1)
    wanted = f'no object to train on: {boxes} of {boxes} objects are left out: no LiDAR point lies in them'
    with pytest.raises(InputError, match=wanted):
        report_objects(dataset)
    with pytest.raises(InputError, match=wanted):
        SeededCBGSDataset(dataset)
    ignored: dict = {}
    nusc = open_tables(root, None)
    _, counts = evaluate_boxes(nusc, {sample['token']: [] for sample in nusc.sample}, ignored=ignored)
    assert sum(counts.values()) == 0
    (note,) = describe_ignored('boxes', ignored)
    assert note.startswith('no LiDAR', note.index('since ') + 6) and 'car ' in note
