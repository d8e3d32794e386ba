"""The tools on a small crowd detector: train, resume, two processes, test, report, result files, clouds, comparison."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from free_port import free_port
from shipped import config_path
from torch import multiprocessing

from perception3d.apis.browse import BrowseOptions, browse
from perception3d.apis.compare import CompareOptions, compare
from perception3d.apis.config import load_config
from perception3d.apis.export import export
from perception3d.apis.inferencer import Inferencer
from perception3d.apis.option_texts import parse_options
from perception3d.apis.testing import test as run_test
from perception3d.apis.training import train
from perception3d.engine.runner import PerceptionRunner
from perception3d.evaluation.crowd_options import CrowdOptions
from perception3d.evaluation.crowd_report import flatten
from perception3d.files import read_image
from perception3d.formats.stcrowd.evaluation.folders import evaluate_folders
from perception3d.formats.stcrowd.files import read_sequence
from perception3d.models.crowd.head import DensityHeatmapHead

CONFIG = config_path('dha_tiny_256x256_10e_stcrowd_sim')
EPOCHS = 8


@pytest.fixture(scope='module')
def options(simulated_stcrowd):
    """The config with fewer channels and eight short epochs."""
    loaders = [f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')]
    # mmengine collects garbage for a second where it serializes.
    loaders += [f'+{part}_dataloader.dataset.serialize_data=False' for part in ('train', 'val', 'test')]
    small = ['pillar_channels=16', 'block_channels=[16,16,32]', 'block_layers=[1,1,1]', 'neck_channels=16']
    few = ['head_channels=16', f'max_epochs={EPOCHS}', 'lr=0.002', 'averaging_momentum=0.1']
    log = ['default_hooks.logger.interval=1', 'log_processor.window_size=1']
    return [f'data_root={simulated_stcrowd}', *small, *few, *log, *loaders]


@pytest.fixture(scope='module', autouse=True)
def fast_norms():
    """Batch norms that know their statistics after ten steps, and not after hundreds."""
    plain = PerceptionRunner.train

    def trains(self):
        for module in self.model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.3
        return plain(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PerceptionRunner, 'train', trains)
        yield


@pytest.fixture(scope='module')
def work_dir(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp('work')
    train(CONFIG, options, work_dir=folder)
    return folder


@pytest.fixture(scope='module')
def checkpoint(work_dir):
    return work_dir / f'epoch_{EPOCHS}.pth'


@pytest.fixture(scope='module')
def clouds(simulated_stcrowd, tmp_path_factory):
    """The clouds of a validation sequence, away from their tree."""
    folder = tmp_path_factory.mktemp('clouds')
    for path in sorted((simulated_stcrowd / 'pcd' / '100001').iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def losses_of(folder):
    log = next(folder.rglob('scalars.json')).read_text()
    return [json.loads(line)['loss'] for line in log.splitlines() if '"loss"' in line]


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_the_loss_falls_and_a_killed_run_resumes_to_the_same_weights(options, work_dir, tmp_path, monkeypatch):
    losses = losses_of(work_dir)
    assert len(losses) == 6 * EPOCHS and np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])
    loss, steps = DensityHeatmapHead.loss, []

    def dies(self, *args, **kwargs):
        steps.append(1)
        # In the middle of the last epoch.
        if len(steps) == 9:
            raise KeyboardInterrupt
        return loss(self, *args, **kwargs)

    monkeypatch.setattr(DensityHeatmapHead, 'loss', dies)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, options, work_dir=tmp_path, resume=str(work_dir / f'epoch_{EPOCHS - 2}.pth'))
    monkeypatch.undo()
    assert (tmp_path / f'epoch_{EPOCHS - 1}.pth').exists() and not (tmp_path / f'epoch_{EPOCHS}.pth').exists()
    train(CONFIG, options, work_dir=tmp_path, resume=True)
    resumed, whole = weights(tmp_path / f'epoch_{EPOCHS}.pth'), weights(work_dir / f'epoch_{EPOCHS}.pth')
    assert resumed.keys() == whole.keys()
    assert not [name for name in whole if not torch.equal(resumed[name], whole[name])]


def train_as_one_of_two(rank, port, options, folder):
    """A process of `torchrun`, without its start."""
    import os

    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    train(CONFIG, options, work_dir=folder, launcher='pytorch', amp=True)


def test_two_processes_train_in_mixed_precision_and_share_the_clouds(options, tmp_path):
    settings = [*options, 'max_epochs=1']
    # Not by a fork: the kernels of voxels have started their threads.
    multiprocessing.spawn(train_as_one_of_two, (free_port(), settings, str(tmp_path)), nprocs=2)
    losses = losses_of(tmp_path)
    # Twelve clouds for two processes, two in each step.
    assert len(losses) == 3 and np.isfinite(losses).all() and (tmp_path / 'epoch_1.pth').is_file()


@pytest.fixture(scope='module')
def tested(options, checkpoint, tmp_path_factory):
    """Folder with the pictures, the report and the metrics of a test."""
    folder = tmp_path_factory.mktemp('tested')
    run_test(
        CONFIG,
        checkpoint,
        [*options, 'model.bbox_head.keep_maps=True'],
        out=folder / 'metrics.json',
        work_dir=str(folder / 'work'),
        show_dir=str(folder / 'shown'),
        video='gif',
        html=folder / 'report.html',
    )
    return folder


def test_scores_of_boxes_and_tracks_are_those_of_the_result_files(
    simulated_stcrowd, options, checkpoint, tested, tmp_path
):
    found = json.loads((tested / 'metrics.json').read_text())
    # After 48 steps it finds people in sequences that it has not seen.
    assert found['stcrowd/map'] > 15 and found['stcrowd/ar'] > 50
    # Tracks reach the metric.
    assert found['stcrowd/idf1'] > 5 and {'stcrowd/mota', 'stcrowd/amota', 'stcrowd/mt'} <= found.keys()
    out = tmp_path / 'results'
    assert run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path / 'work'), format_only=str(out)) == {}
    assert sorted(path.name for path in out.glob('*.json')) == ['100001.json', '100002.json', 'tracks_nusc.json']
    # The files of tracks in the same folder are no results.
    assert len(list(out.glob('tracks_*'))) == 5 and len(list((out / 'tracks').glob('*.json'))) == 2
    scores, _ = evaluate_folders(simulated_stcrowd / 'perception3d_infos_val.pkl', out)
    expected = {f'stcrowd/{key}': value for key, value in flatten(scores, CrowdOptions()).items()}
    assert expected == pytest.approx(found, rel=1e-6, nan_ok=True)


def test_a_test_leaves_pictures_a_video_of_each_scene_and_a_report(tested):
    pictures = sorted((tested / 'shown').glob('*.png'))
    assert len(pictures) == 6 and read_image(pictures[0]).std() > 10
    assert len(list((tested / 'shown').glob('*.gif'))) == 2
    report = (tested / 'report.html').read_text()
    assert report.count('data:image') == 6 and '://' not in report


def test_a_folder_of_clouds_is_a_sequence_with_boxes_and_tracks(options, checkpoint, clouds, tmp_path):
    inferencer = Inferencer(load_config(CONFIG, parse_options(options)), checkpoint, 'cpu')
    written = inferencer.write(clouds, tmp_path)
    names = [f'1717249430.{part}' for part in ('000', '400', '800')]
    assert [path.name for path in written[:-3]] == [
        f'{name}{end}' for name in names for end in ('.png', '.json', '.people.json')
    ]
    assert [path.name.removeprefix(f'tracks_{clouds.name}') for path in written[-3:]] == ['.csv', '.txt', '_nusc.json']
    boxes = json.loads(written[1].read_text())['boxes']
    (frame,) = read_sequence(written[2], scored=True).frames
    assert len(boxes) == len(frame.people) > 5
    table = written[-3].read_text().splitlines()
    assert len(table) > 5 and table[0].startswith('frame,token,time_s,track_id')
    # Each track has one row a frame.
    rows = [tuple(line.split(',')[k] for k in (0, 3)) for line in table[1:]]
    assert len(set(rows)) == len(rows) and len({track for _, track in rows}) < len(rows)


@pytest.mark.parametrize('augmented', [True, False])
def test_people_are_browsed_as_stored_and_as_trained_on(options, tmp_path, augmented):
    files = browse(CONFIG, tmp_path, BrowseOptions('train', augmented, count=1, width_px=640), options)
    assert len(files) == 1 and read_image(files[0]).std() > 10


def test_two_crowd_models_are_compared_with_their_heatmaps(options, work_dir, tmp_path):
    models = [f'{title}={CONFIG},{work_dir}/epoch_{k}.pth' for title, k in (('early', EPOCHS - 2), ('late', EPOCHS))]
    (path,) = compare(models, [0], tmp_path, parse_options(options), CompareOptions(device='cpu', score_thr=0.05))
    picture = read_image(path)
    # Two pictures side by side with their heatmaps below, and the legend.
    assert picture.shape == (814, 1140, 3) and picture[-200:, :900].std() > 10


def test_the_dense_part_is_exported_and_gives_the_maps_of_torch(options, checkpoint, tmp_path):
    exported = export(load_config(CONFIG, parse_options(options)), checkpoint, tmp_path / 'dha.onnx')
    assert exported.difference is not None and exported.difference < 1e-3
    assert (tmp_path / 'dha.onnx').stat().st_size > 50_000
