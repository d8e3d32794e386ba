"""The tools on a small Cylinder3D: train, resume, test, result files, raw clouds, pictures, distillation, benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from semantickitti_tree import write_tree
from shipped import config_path

from perception3d.apis.browse import BrowseOptions, browse
from perception3d.apis.compare import CompareOptions, compare
from perception3d.apis.config import load_config
from perception3d.apis.export import export
from perception3d.apis.inferencer import Inferencer
from perception3d.apis.option_texts import parse_options
from perception3d.apis.testing import test as run_test
from perception3d.apis.training import train
from perception3d.benchmark import Settings, find_benchmarks
from perception3d.benchmark.timing import peak_memory
from perception3d.checks import InputError
from perception3d.files import read_image
from perception3d.formats.semantickitti.evaluation.folders import evaluate_folders
from perception3d.formats.semantickitti.files import CLASSES, LABEL_IDS
from perception3d.formats.semantickitti.info import create_infos
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.visualization.palette import class_color

CONFIG = config_path('cylinder3d_tiny_half_120x90x16_12e_semantickitti_sim')
DISTILLED = config_path('pvd_tiny_half_120x90x16_12e_semantickitti_sim')
SCENE = ('road', 'car', 'building')


def write_street(root: Path) -> Path:
    """A tree of a road with a car between walls: 4 scans to train and 2 to test on, 1 without labels."""
    write_tree(root, {'00': 4, '08': 2})
    write_tree(root, {'11': 1}, labelled=False)
    for path in root.glob('sequences/*/velodyne/*.bin'):
        rng = np.random.default_rng([int(path.parents[1].name), int(path.stem)])
        road = np.column_stack([rng.uniform(-20, 20, 500), rng.uniform(-6, 6, 500), rng.normal(-1.7, 0.02, 500)])
        car = rng.uniform([5, -2, -1.6], [9, 0, 0], (150, 3)) + [rng.uniform(0, 4), 0, 0]
        wall = np.column_stack([rng.uniform(-20, 20, 350), rng.choice([-8, 8], 350), rng.uniform(-1.5, 2, 350)])
        points = np.column_stack([np.concatenate([road, car, wall]), rng.random(1000)])
        points.astype('<f4').tofile(path)
        ids = np.repeat([LABEL_IDS[name] for name in SCENE], [500, 150, 350]).astype('<u4')
        ids[500:650] |= 1 << 16
        if path.parents[1].name != '11':
            ids.tofile(path.parents[1] / 'labels' / f'{path.stem}.label')
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_street(tmp_path_factory.mktemp('street'))


def options_of(root, width=4, compressed_channels=4):
    """The config with a small network, 2 epochs of 4 steps and weights that are averaged over few of them."""
    loaders = [f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')]
    # mmengine collects garbage for a second where it serializes.
    loaders += [f'+{part}_dataloader.dataset.serialize_data=False' for part in ('train', 'val', 'test')]
    small = [f'width={width}', f'compressed_channels={compressed_channels}', 'point_hidden=[16]', 'point_channels=16']
    few = ['max_epochs=2', 'lr=0.02', 'averaging_momentum=0.5', 'train_dataloader.batch_size=1']
    log = ['default_hooks.logger.interval=1', 'log_processor.window_size=1']
    return [f'data_root={root}', 'grid_shape=[60,45,8]', *small, *few, *log, *loaders]


@pytest.fixture(scope='module')
def options(root):
    return options_of(root)


def weights(path):
    content = torch.load(path, weights_only=False)
    return {f'{part}.{k}': v for part in ('state_dict', 'ema_state_dict') for k, v in content[part].items()}


@pytest.fixture(scope='module')
def work_dir(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp('work')
    train(CONFIG, options, work_dir=folder)
    return folder


@pytest.fixture(scope='module')
def checkpoint(work_dir):
    return work_dir / 'epoch_2.pth'


def pixels(path, name):
    """How many pixels left of the legend have exactly the colour of a class."""
    picture = read_image(path)
    return int((picture[:, : round(0.85 * picture.shape[1])] == class_color(name)).all(axis=2).sum())


def test_the_loss_falls_and_a_killed_run_resumes_to_the_same_weights(options, work_dir, tmp_path, monkeypatch):
    log = next(work_dir.rglob('scalars.json')).read_text()
    losses = [json.loads(line)['loss'] for line in log.splitlines() if '"loss"' in line]
    assert len(losses) == 8 and losses[-1] < 0.5 * losses[0]
    forward, steps = PointSegmentor.forward, []

    def dies(self, inputs, data_samples=None, mode='tensor'):
        steps.append(mode)
        # In the middle of the second epoch.
        if steps.count('loss') == 7:
            raise KeyboardInterrupt
        return forward(self, inputs, data_samples, mode)

    monkeypatch.setattr(PointSegmentor, 'forward', dies)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, options, work_dir=tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / 'epoch_2.pth').exists()
    train(CONFIG, options, work_dir=tmp_path, resume=True)
    resumed, whole = weights(tmp_path / 'epoch_2.pth'), weights(work_dir / 'epoch_2.pth')
    assert resumed.keys() == whole.keys()
    assert not [name for name in whole if not torch.equal(resumed[name], whole[name])]


def test_scores_of_a_test_are_those_of_its_result_files(options, root, checkpoint, tmp_path):
    folders = dict(work_dir=str(tmp_path / 'work'), show_dir=str(tmp_path / 'shown'))
    found = run_test(CONFIG, checkpoint, options, out=tmp_path / 'metrics.json', **folders)
    assert found == json.loads((tmp_path / 'metrics.json').read_text())
    assert min(found[f'semantickitti/iou/{name}'] for name in SCENE) > 0.5 and found['semantickitti/iou/person'] == 0
    pictures = sorted((tmp_path / 'shown').iterdir())
    assert [path.name for path in pictures] == ['000000_08_000000.png', '000001_08_000001.png']
    assert all(pixels(pictures[0], name) > 20 for name in (*SCENE, 'wrong'))
    out = tmp_path / 'results'
    assert run_test(CONFIG, checkpoint, options, work_dir=folders['work_dir'], format_only=str(out)) == {}
    scores, _ = evaluate_folders(root, out, progress=False)
    assert scores['miou'] == pytest.approx(found['semantickitti/miou'], abs=1e-12)
    assert scores['iou'] == pytest.approx({name: found[f'semantickitti/iou/{name}'] for name in CLASSES}, abs=1e-12)


def test_scans_of_the_benchmark_are_predicted_without_labels(options, checkpoint, tmp_path):
    options = [*options, 'test_ann_file=perception3d_infos_test.pkl']
    out = tmp_path / 'results'
    assert run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path), format_only=str(out)) == {}
    written = sorted(str(path.relative_to(out)) for path in out.rglob('*.label'))
    assert written == ['sequences/11/predictions/000000.label']
    assert len(np.fromfile(out / written[0], '<u4')) == 1000
    assert (out / 'submission.zip').is_file()
    with pytest.raises(InputError, match='11_000000 has no point labels'):
        run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path))


def test_results_do_not_go_among_the_files_of_the_data_set(options, root, checkpoint, tmp_path):
    folder = root / 'sequences' / '08'
    with pytest.raises(InputError, match='which the data set reads: results could overwrite its files'):
        run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path), format_only=str(folder / 'labels'))
    inferencer = Inferencer(load_config(CONFIG, parse_options(options)), checkpoint, 'cpu')
    with pytest.raises(InputError, match='labels of a data set'):
        inferencer.write(folder / 'velodyne' / '000000.bin', folder / 'labels')


def test_bare_clouds_get_labels_a_picture_and_json(options, root, checkpoint, tmp_path):
    stored = np.fromfile(root / 'sequences' / '08' / 'velodyne' / '000001.bin', '<f4').reshape(-1, 4)
    (tmp_path / 'other').mkdir()
    stored.tofile(tmp_path / 'bare.bin')
    np.save(tmp_path / 'other' / 'bare.npy', stored)
    inferencer = Inferencer(load_config(CONFIG, parse_options(options)), checkpoint, 'cpu')
    written = [inferencer.write(tmp_path / path, tmp_path / 'out') for path in ('bare.bin', 'other/bare.npy')]
    # Clouds of one name do not overwrite each other.
    names = [[path.name for path in paths] for paths in written]
    assert names == [['bare.png', 'bare.json', 'bare.label'], ['bare_2.png', 'bare_2.json', 'bare_2.label']]
    (picture, described, result), (_, _, other) = written
    ids = np.fromfile(result, '<u4')
    assert len(ids) == 1000 and result.read_bytes() == other.read_bytes()
    labels = json.loads(described.read_text())['point_labels']['labels']
    assert [LABEL_IDS[CLASSES[label]] for label in labels] == ids.tolist()
    # A list of labels is one line.
    assert described.stat().st_size < 10 * len(ids)
    shown = {CLASSES[label] for label in set(labels) if labels.count(label) > 50}
    assert 'road' in shown and all(pixels(picture, name) > 20 for name in shown)
    np.zeros((0, 4), '<f4').tofile(tmp_path / 'empty.bin')
    with pytest.raises(InputError, match='empty.bin'):
        inferencer.write(tmp_path / 'empty.bin', tmp_path / 'out')


@pytest.mark.parametrize('augmented', [True, False])
def test_labels_are_browsed_as_stored_and_as_trained_on(options, tmp_path, augmented):
    (picture,) = browse(CONFIG, tmp_path, BrowseOptions('train', augmented, count=1, width_px=640), options)
    assert all(pixels(picture, name) > 20 for name in SCENE)


def test_two_segmentors_are_compared_by_their_errors(options, work_dir, tmp_path):
    models = [f'{title}={CONFIG},{work_dir}/epoch_{k}.pth' for title, k in (('early', 1), ('late', 2))]
    (path,) = compare(models, [1], tmp_path, parse_options(options), CompareOptions(device='cpu'))
    picture = read_image(path)
    is_wrong = (picture == class_color('wrong')).all(axis=2)
    rows, _ = np.nonzero(is_wrong[:, :960])
    # Predictions above, errors below; the legend names them.
    assert len(rows) > 20 and rows.min() > 0.45 * len(picture) and is_wrong[:, 960:].any()


def test_sparse_networks_have_no_onnx_file(options, checkpoint, tmp_path):
    with pytest.raises(InputError, match='Cylinder3D cannot be exported: sparse convolutions have no ONNX operator'):
        export(load_config(CONFIG, parse_options(options)), checkpoint, tmp_path / 'model.onnx')


def test_the_benchmark_measures_phases_and_parts(options):
    device = torch.device('cpu')
    # As an earlier config would leave it: the peak is that of a process of its own.
    held = torch.ones(3 * 2**26)
    with peak_memory(device) as here:
        tables = find_benchmarks()['lidar_seg'](load_config(CONFIG, parse_options(options)), Settings(device, runs=1))
    assert 100 < tables['One training step'][0]['peak MiB'] < here['peak_mib'] - held.nbytes / 2**21
    (step,), (inference,) = tables['One training step'], tables['Inference']
    assert step['points'] == 1000 and 0 < step['voxels'] < 1000 and step['backward ms'] > 0
    assert inference['sparse GMACs'] > 0 and inference['dense GMACs'] > 0
    parts = {row['part']: row for row in tables['Parts of the network']}
    assert all(parts[name]['inference ms'] > 0 for name in ('maps', 'down', 'up'))
    assert parts['down']['kept for the backward pass, MiB'] > 0


def test_a_checkpoint_distilled_in_mixed_precision_is_one_of_the_plain_student(options, root, checkpoint, tmp_path):
    shared = [option for option in options if not option.startswith(('width', 'compressed_channels'))]
    student = ['model.student.net.width=2', 'model.student.net.compressed_channels=2']
    teacher = ['model.teacher.net.width=4', 'model.teacher.net.compressed_channels=4']
    teacher += [f'model.teacher_checkpoint={checkpoint}']
    train(DISTILLED, [*shared, *student, *teacher, 'max_epochs=1'], work_dir=tmp_path, amp=True)
    log = next(tmp_path.rglob('scalars.json')).read_text()
    (last,) = [json.loads(line) for line in log.splitlines() if '"loss"' in line][-1:]
    links = ('point_output', 'point_affinity', 'voxel_output', 'voxel_affinity')
    assert all(last[f'distill.{link}.value'] > 0 for link in links)
    plain = options_of(root, width=2, compressed_channels=2)
    found = run_test(CONFIG, tmp_path / 'epoch_1.pth', plain, work_dir=str(tmp_path / 'test'), amp=True)
    assert 0 < found['semantickitti/accuracy'] < 1
