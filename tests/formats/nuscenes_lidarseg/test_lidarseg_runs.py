"""nuScenes-lidarseg from the tree to a submission that the devkit accepts, and every fault of its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lidarseg_tree import CATEGORIES, LidarsegTree
from mmdet3d.datasets.transforms import Pack3DDetInputs
from mmdet3d.structures import PointData
from nuscenes import NuScenes
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.eval.lidarseg.validate_submission import validate_submission
from nuscenes_tree import HandmadeTree

from perception3d.checks import InputError
from perception3d.datasets.point_label_dataset import POINT_META_KEYS
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.files import read_pickle
from perception3d.formats.nuscenes_lidarseg.dataset import NuScenesLidarsegDataset
from perception3d.formats.nuscenes_lidarseg.evaluation.folders import evaluate_results
from perception3d.formats.nuscenes_lidarseg.evaluation.metric import NuScenesLidarsegMetric
from perception3d.formats.nuscenes_lidarseg.files import CLASSES
from perception3d.formats.nuscenes_lidarseg.info import create_infos
from perception3d.formats.nuscenes_lidarseg.sweeps import LoadUnlabelledSweeps
from perception3d.structures.point_labels import IGNORE
from tools import create_data

ANN_FILE = 'perception3d_infos_lidarseg_{}.pkl'
LOAD = dict(type=LoadCheckedPoints, load_dim=5, use_dim=5)
PACK = dict(type=Pack3DDetInputs, keys=['points', 'pts_semantic_mask', 'pts_instance_mask'], meta_keys=POINT_META_KEYS)
PIPELINE = [LOAD, dict(type=LoadPointLabels), PACK]


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with info files and results of mini_val in `results`. Read only."""
    root = tmp_path_factory.mktemp('lidarseg') / 'tree'
    handmade = LidarsegTree(root)
    handmade.write()
    assert create_data.main(['nuscenes-lidarseg', '--root', str(root), '--jobs', '1']) == 0
    handmade.write_results(root.parent / 'results')
    return root


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    """A copy of the tree, next to a copy of the results, that the test may break."""
    shutil.copytree(tree.parent / 'results', tmp_path / 'results')
    return Path(shutil.copytree(tree, tmp_path / 'tree'))


def dataset(root: Path, split: str = 'mini_val', **kwargs: Any) -> NuScenesLidarsegDataset:
    # Serializing collects the garbage of the whole process each time.
    settings = dict(pipeline=PIPELINE, test_mode=True, serialize_data=False)
    return NuScenesLidarsegDataset(str(root), ANN_FILE.format(split), **{**settings, **kwargs})


def predicted(data: NuScenesLidarsegDataset, results: Path) -> list[dict[str, Any]]:
    """The packed samples of a data set, with the results as predictions."""
    samples = []
    for packed in data:
        sample = packed['data_samples']
        ids = np.fromfile(results / 'lidarseg' / 'mini_val' / f'{sample.token}_lidarseg.bin', np.uint8)
        labels = torch.zeros(len(packed['inputs']['points']), dtype=torch.int64)
        labels[: len(ids)] = torch.from_numpy(ids.astype(np.int64) - 1)
        sample.pred_pts_seg = PointData(pts_semantic_mask=labels)
        samples.append(sample)
    return samples


def run_metric(data: NuScenesLidarsegDataset, samples: list[Any], **kwargs: Any) -> dict[str, float]:
    metric = NuScenesLidarsegMetric(**kwargs)
    metric.dataset_meta = data.metainfo
    for sample in samples:
        metric.process({}, [sample.to_dict()])
    return metric.evaluate(len(samples))


def test_infos_name_keyframes_and_their_labels(tree: Path):
    content = read_pickle(tree / ANN_FILE.format('mini_val'))
    infos = content['data_list']
    assert [info['scene_name'] for info in infos] == ['scene-0103'] * 2 + ['scene-0916'] * 2
    assert content['metainfo']['category_index']['flat.sidewalk'] == 26
    for info in infos:
        count = len(np.fromfile(tree / info['lidar_points']['lidar_path'], np.float32)) // 5
        assert len(np.fromfile(tree / info['pts_semantic_mask_path'], np.uint8)) == count
        assert info['frame_id'] in info['pts_semantic_mask_path']
    # Both keyframes of a scene; the first has no sweep before it.
    assert [len(info['lidar_sweeps']) for info in infos] == [0, 10, 0, 10]
    assert len(read_pickle(tree / ANN_FILE.format('mini_train'))['data_list']) == 2


def test_a_tree_without_public_labels_gives_infos_to_predict(tmp_path: Path, capsys: pytest.CaptureFixture):
    LidarsegTree(tmp_path, 'v1.0-test', ('scene-0077',), labelled=False).write()
    (tmp_path / 'v1.0-test' / 'panoptic.json').unlink()
    assert create_data.main(['nuscenes-lidarseg', '--root', str(tmp_path)]) == 0
    assert 'test: 2 frames' in (text := capsys.readouterr().out) and 'not scored' in text
    data = dataset(tmp_path, 'test')
    sample = data[1]['data_samples']
    assert len(data) == 2 and sample.eval_ann_info is None
    with pytest.raises(InputError, match='without labels'):
        dataset(tmp_path, 'test', test_mode=False)[0]
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.arange(16))
    assert run_metric(data, [sample], format_dir=str(tmp_path / 'out'), format_only=True) == {}
    written = tmp_path / 'out' / 'lidarseg' / 'test' / f'{sample.token}_lidarseg.bin'
    assert written.read_bytes() == bytes(range(1, 17))


def test_samples_have_labels_and_objects(tree: Path):
    sample = dataset(tree, test_mode=False, serialize_data=True)[2]
    points, labels = sample['inputs']['points'], sample['data_samples'].gt_pts_seg.pts_semantic_mask
    assert points.shape == (len(labels), 5) and labels.dtype == torch.int64
    # Column 4 is the ring.
    assert set(points[:, 4].tolist()) == set(range(32))
    panoptic = dataset(tree, test_mode=False, panoptic=True)[2]['data_samples'].gt_pts_seg
    assert torch.equal(panoptic.pts_semantic_mask, labels)
    with np.load(tree / 'panoptic' / 'v1.0-mini' / f'{sample["data_samples"].token}_panoptic.npz') as content:
        stored = content['data'].astype(np.int64)
    np.testing.assert_array_equal(panoptic.pts_instance_mask, np.where(stored % 1000, stored, 0))
    car = labels.numpy() == CLASSES.index('car')
    np.testing.assert_array_equal(car, stored // 1000 == CATEGORIES.index('vehicle.car'))


def test_a_data_set_may_have_some_of_the_classes(tree: Path, tmp_path: Path):
    data = dataset(tree, metainfo=dict(classes=('vegetation', 'bus')))
    sample, every = data[1]['data_samples'], dataset(tree)[1]['data_samples']
    labels, all_labels = (s.eval_ann_info['pts_semantic_mask'] for s in (sample, every))
    assert set(labels.tolist()) == {0, 1, IGNORE}
    np.testing.assert_array_equal(labels == 0, all_labels == CLASSES.index('vegetation'))
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.from_numpy(np.minimum(labels, 1)))
    found = run_metric(data, [sample], format_dir=str(tmp_path))
    assert found['nuscenes_lidarseg/miou'] == found['nuscenes_lidarseg/fwiou'] == 1
    written = np.fromfile(next((tmp_path / 'lidarseg' / 'mini_val').iterdir()), np.uint8)
    np.testing.assert_array_equal(written, np.where(labels == 0, 16, 3))
    with pytest.raises(InputError, match="'vegetaton': did you mean 'vegetation'"):
        dataset(tree, metainfo=dict(classes=('vegetaton',)))[0]


def test_earlier_sweeps_are_not_labelled_and_not_scored(tree: Path):
    sweeps = dict(type=LoadUnlabelledSweeps, sweeps_num=3, load_dim=5, use_dim=5, test_mode=True)
    data = dataset(tree, pipeline=[LOAD, dict(type=LoadPointLabels), sweeps, PACK])
    alone = dataset(tree)
    first, second = data[0], data[1]
    assert first['data_samples'].num_scored_points == len(first['inputs']['points'])
    count, points = second['data_samples'].num_scored_points, second['inputs']['points']
    assert count == len(alone[1]['inputs']['points']) and len(points) > count + 100
    assert torch.equal(points[:count, :4], alone[1]['inputs']['points'][:, :4])
    assert set(points[:count, 4].tolist()) == {0}
    assert sorted({round(age, 2) for age in points[count:, 4].tolist()}) == [0.05, 0.1, 0.15]
    truth = second['data_samples'].eval_ann_info['pts_semantic_mask']
    assert len(truth) == len(points) and set(truth[count:].tolist()) == {IGNORE}
    results = tree.parent / 'results'
    with_sweeps, without = run_metric(data, predicted(data, results)), run_metric(alone, predicted(alone, results))
    np.testing.assert_equal(with_sweeps, without)


def test_the_devkit_accepts_and_scores_our_submission(tree: Path, tmp_path: Path):
    data = dataset(tree)
    found = run_metric(data, predicted(data, tree.parent / 'results'), format_dir=str(tmp_path))
    nusc = NuScenes('v1.0-mini', str(tree), verbose=False)
    validate_submission(nusc, str(tmp_path), 'mini_val')
    official = LidarSegEval(nusc, str(tmp_path), 'mini_val').evaluate()
    assert found['nuscenes_lidarseg/miou'] == official['miou']
    assert found['nuscenes_lidarseg/fwiou'] == official['freq_weighted_iou']
    for name in CLASSES:
        np.testing.assert_array_equal(found[f'nuscenes_lidarseg/iou/{name}'], official['iou_per_class'][name])
    assert found['nuscenes_lidarseg/miou'] == evaluate_results(tree, tmp_path)[0]['miou']
    # The validator can refuse.
    result = next((tmp_path / 'lidarseg' / 'mini_val').iterdir())
    result.write_bytes(b'\x00' + result.read_bytes()[1:])
    with pytest.raises(AssertionError):
        validate_submission(nusc, str(tmp_path), 'mini_val')


def test_a_bare_cloud_gets_a_result_file(tree: Path, tmp_path: Path):
    cloud = next((tree / 'samples' / 'LIDAR_TOP').iterdir())
    sweeps = dict(type=LoadUnlabelledSweeps, sweeps_num=3, load_dim=5, use_dim=5, test_mode=True)
    data = dataset(tree, lazy_init=True, pipeline=[LOAD, dict(type=LoadPointLabels), sweeps, PACK])
    (raw,) = data.sample_from_file(cloud)
    assert raw['token'] == cloud.name.removesuffix('.pcd.bin') and raw['lidar_axes'] == data.metainfo['lidar_axes']
    packed = data.pipeline({**raw, 'box_type_3d': data.box_type_3d, 'box_mode_3d': data.box_mode_3d})
    sample = packed['data_samples']
    count = len(packed['inputs']['points'])
    assert count == cloud.stat().st_size // 20
    assert not data.write_result(sample, tmp_path / 'none_lidarseg.bin') and not list(tmp_path.iterdir())
    labels = torch.arange(count) % 16
    sample.pred_pts_seg = PointData(pts_semantic_mask=labels)
    path = tmp_path / f'{sample.token}{data.result_suffix}'
    # Twice: a result file may be replaced.
    assert data.write_result(sample, path) and data.write_result(sample, path)
    np.testing.assert_array_equal(np.fromfile(path, np.uint8), labels + 1)
    path.write_bytes(bytes([0, 24, 31]))
    with pytest.raises(InputError, match='not a result file'):
        data.write_result(sample, path)
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.full((count,), IGNORE))
    with pytest.raises(InputError, match=r'other_lidarseg.bin.* 255 .*expected 0 to 15'):
        data.write_result(sample, tmp_path / 'other_lidarseg.bin')


def label_files(root: Path) -> list[Path]:
    return sorted((root / 'lidarseg' / 'v1.0-mini').iterdir())


def change_json(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def shorten(root: Path) -> None:
    path = label_files(root)[0]
    path.write_bytes(path.read_bytes()[:-3])


def empty_scan(root: Path) -> None:
    path = label_files(root)[0]
    path.write_bytes(b'')
    token = path.name.removesuffix('_lidarseg.bin')
    rows = json.loads((root / 'v1.0-mini' / 'sample_data.json').read_text())
    (root / next(row['filename'] for row in rows if row['token'] == token)).write_bytes(b'')


def unknown_ids(root: Path) -> None:
    path = label_files(root)[1]
    path.write_bytes(bytes([77]) * path.stat().st_size)


def no_index(root: Path) -> None:
    change_json(root / 'v1.0-mini' / 'category.json', lambda rows: [row.pop('index') for row in rows])


def no_table(root: Path) -> None:
    (root / 'v1.0-mini' / 'lidarseg.json').unlink()


def twice(root: Path) -> None:
    change_json(root / 'v1.0-mini' / 'category.json', lambda rows: rows[4].update(index=7))


def forklift(root: Path) -> None:
    change_json(root / 'v1.0-mini' / 'category.json', lambda rows: rows[4].update(name='vehicle.carr'))


def in_part(root: Path) -> None:
    first = label_files(root)[0]
    first.unlink()
    table = root / 'v1.0-mini' / 'lidarseg.json'
    table.write_text(json.dumps([row for row in json.loads(table.read_text()) if first.name not in row['filename']]))


FAULTS_OF_DATA = {
    'short': (shorten, r'_lidarseg.bin holds \d+ labels, but its scan has \d+ points'),
    'empty scan': (empty_scan, r'\.bin holds no points'),
    'unknown ids': (unknown_ids, r'_lidarseg.bin holds the unknown label ids 77'),
    'no index': (no_index, 'category.json has categories without index'),
    'no table': (no_table, 'lidarseg.json does not exist: unpack nuScenes-lidarseg'),
    'an index twice': (twice, 'category.json: two categories have the index 7'),
    'another category': (forklift, "category.json.*'vehicle.carr': did you mean 'vehicle.car'"),
    'missing file': (lambda root: label_files(root)[0].unlink(), r'v1.0-mini holds 5 label files, but .* names 6'),
    'labelled in part': (in_part, r'lidarseg.json has no labels of 1 of \d keyframes of mini_'),
    'no folder': (lambda root: shutil.rmtree(root / 'lidarseg'), 'lidarseg/v1.0-mini does not exist'),
}


@pytest.mark.parametrize('fault', FAULTS_OF_DATA)
def test_faults_of_the_tree_are_one_line(copy: Path, fault: str):
    change, message = FAULTS_OF_DATA[fault]
    change(copy)
    with pytest.raises(InputError, match=message) as error:
        create_infos(copy, jobs=1, progress=False)
    assert '\n' not in str(error.value)


def test_a_tree_of_nuscenes_without_lidarseg_says_what_to_unpack(tmp_path: Path):
    HandmadeTree(tmp_path, keyframes=2).write({'hand_val': ['scene-a']})
    with pytest.raises(InputError, match='category.json has categories without index.*unpack nuScenes-lidarseg'):
        create_infos(tmp_path, progress=False)


def results_of(root: Path) -> list[Path]:
    return sorted((root.parent / 'results' / 'lidarseg' / 'mini_val').iterdir())


def predict(root: Path, number: int) -> None:
    # Every keyframe's own, but for one point.
    for path in results_of(root):
        path.write_bytes(bytes([number]) + path.read_bytes()[1:])


def without_results(root: Path) -> None:
    wanted = [info['frame_id'] for info in read_pickle(root / ANN_FILE.format('mini_val'))['data_list']]
    (root.parent / 'results' / 'lidarseg' / 'mini_val' / f'{wanted[1]}_lidarseg.bin').unlink()


def cut_results(root: Path) -> None:
    for path in results_of(root):
        path.write_bytes(path.read_bytes()[:-1])


def move(root: Path, name: str) -> None:
    folder = root.parent / 'results' / 'lidarseg'
    (folder / 'mini_val').rename(folder / name)


FAULTS_OF_RESULTS = {
    'predicts 0': (lambda root: predict(root, 0), r'_lidarseg.bin predicts 0 for 1 of \d+ points: expected .* 1 to 16'),
    'predicts 17': (lambda root: predict(root, 17), r'_lidarseg.bin predicts 17 for 1 of \d+ points'),
    'missing': (
        without_results,
        r'results/lidarseg/mini_val lacks the results of 1 of 4 keyframes, such as \w+_lidarseg.bin',
    ),
    'short': (cut_results, r'_lidarseg.bin holds \d+ labels, but its scan has \d+ points'),
    'no such split': (
        lambda root: move(root, 'mini_vall'),
        r"split of v1.0-mini .*results/lidarseg/mini_vall.*did you mean 'mini_val'",
    ),
    'of another version': (lambda root: move(root, 'val'), r"unknown split of v1.0-mini .* 'val'"),
    'two splits': (
        lambda root: (root.parent / 'results/lidarseg/val').mkdir(),
        r'several splits \(mini_val, val\): choose one with --split',
    ),
    'no folder': (
        lambda root: shutil.rmtree(root.parent / 'results' / 'lidarseg'),
        r'results/lidarseg does not exist: results lie in',
    ),
}


@pytest.mark.parametrize('fault', FAULTS_OF_RESULTS)
def test_faults_of_results_are_one_line(copy: Path, fault: str):
    change, message = FAULTS_OF_RESULTS[fault]
    change(copy)
    with pytest.raises(InputError, match=message) as error:
        evaluate_results(copy, copy.parent / 'results')
    assert '\n' not in str(error.value)


def panoptic_files(root: Path) -> list[Path]:
    return sorted((root.parent / 'results' / 'panoptic' / 'mini_val').iterdir())


def change_panoptic(path: Path, data: Any) -> None:
    np.savez_compressed(path, data=data)


def no_panoptic_table(root: Path) -> None:
    (root / 'v1.0-mini' / 'panoptic.json').unlink()


def predict_panoptic(root: Path, number: int) -> None:
    for path in panoptic_files(root):
        with np.load(path) as content:
            data = content['data']
        data[3] = 1000 * number
        change_panoptic(path, data)


FAULTS_OF_PANOPTIC_RESULTS = {
    'predicts 17': (lambda root: predict_panoptic(root, 17), r'_panoptic.npz predicts 17 for 1 of .* 0 to 16'),
    'damaged': (
        lambda root: [path.write_bytes(path.read_bytes()[:200]) for path in panoptic_files(root)],
        r'_panoptic.npz is not an .npz file with an array data',
    ),
    'short': (
        lambda root: [change_panoptic(path, np.full(30, 4000)) for path in panoptic_files(root)],
        r'_panoptic.npz holds 30 labels, but its scan has \d+ points',
    ),
    'floats': (
        lambda root: [change_panoptic(path, np.full(30, 4.5)) for path in panoptic_files(root)],
        r'_panoptic.npz holds float64 of shape \(30,\): expected \(N,\) whole numbers',
    ),
    'no table': (no_panoptic_table, r'panoptic.json has no labels of 4 of 4 keyframes of mini_val'),
}


@pytest.mark.parametrize('fault', FAULTS_OF_PANOPTIC_RESULTS)
def test_faults_of_panoptic_results_are_one_line(copy: Path, fault: str):
    change, message = FAULTS_OF_PANOPTIC_RESULTS[fault]
    change(copy)
    with pytest.raises(InputError, match=message) as error:
        evaluate_results(copy, copy.parent / 'results', panoptic=True)
    assert '\n' not in str(error.value)


def test_panoptic_labels_that_are_not_there_are_asked_for(copy: Path):
    no_panoptic_table(copy)
    create_infos(copy, jobs=1, progress=False)
    with pytest.raises(InputError, match='has no panoptic labels: unpack Panoptic nuScenes'):
        dataset(copy, panoptic=True)[0]


def test_a_split_can_be_chosen(copy: Path):
    expected = evaluate_results(copy, copy.parent / 'results')[0]
    (copy.parent / 'results' / 'lidarseg' / 'mini_train').mkdir()
    assert evaluate_results(copy, copy.parent / 'results', split='mini_val')[0] == expected


def test_a_prediction_of_ignored_points_names_the_frame(tree: Path):
    data = dataset(tree)
    samples = predicted(data, tree.parent / 'results')
    samples[1].pred_pts_seg.pts_semantic_mask[0] = IGNORE
    with pytest.raises(InputError, match=f'frame {samples[1].token}: the label 255 .* expected 0 to 15'):
        run_metric(data, samples)
