"""The tools on a small ENet: train, resume, two processes, test, raw images, folders, videos, pictures, comparison."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from free_port import free_port
from lane_trees import write_culane_tree
from shipped import config_path
from torch import multiprocessing

from perception3d.apis.browse import BrowseOptions, browse
from perception3d.apis.compare import CompareOptions, compare
from perception3d.apis.config import load_config
from perception3d.apis.inferencer import Inferencer
from perception3d.apis.option_texts import parse_options
from perception3d.apis.testing import test as run_test
from perception3d.apis.training import dry_run, train
from perception3d.checks import InputError
from perception3d.files import read_image
from perception3d.formats.culane.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.culane.files import SLOTS, read_lines
from perception3d.formats.culane.info import create_infos
from perception3d.formats.custom_lanes.dataset import CustomLanesDataset
from perception3d.models.lane.segmentor import LaneSegmentor
from perception3d.visualization.palette import class_color
from tools import infer

CONFIG = config_path('enet_208x976_12e_culane')
HW = (96, 240)
FOLDER = 'driver_23_30frame/a.MP4'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = write_culane_tree(tmp_path_factory.mktemp('culane'), HW)
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='module')
def options(root):
    """The config with a small input, without augmentation and drops, and 8 epochs of 3 steps."""
    loaders = [f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')]
    # mmengine collects garbage for a second where it serializes.
    loaders += [f'+{part}_dataloader.dataset.serialize_data=False' for part in ('train', 'val', 'test')]
    small = ['crop_top_px=24', 'input_hw=[48,160]', 'scale_x=[1,1]', 'scale_y=[1,1]', 'rotate_deg=0', 'dropout=0.0']
    few = ['batch_size=1', 'max_epochs=8', 'lr=0.3', 'warmup_iters=2', 'val_interval=99']
    # So few steps do not teach which lanes exist.
    rows = [f'+model.decoder.{name}' for name in ('row_step_px=5', 'num_rows=12', 'kernel=3', 'exist_threshold=0.1')]
    log = ['default_hooks.logger.interval=1', 'log_processor.window_size=1']
    return [f'data_root={root}', *small, *few, *rows, *log, *loaders]


@pytest.fixture(scope='module')
def work_dir(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp('work')
    train(CONFIG, options, work_dir=folder)
    return folder


@pytest.fixture(scope='module')
def checkpoint(work_dir):
    return work_dir / 'epoch_8.pth'


@pytest.fixture(scope='module')
def inferencer(options, checkpoint):
    return Inferencer(load_config(CONFIG, parse_options(options)), checkpoint, 'cpu')


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def pixels(path, name):
    """How many pixels left of the legend have exactly the colour of a class."""
    picture = read_image(path) if isinstance(path, Path) else path
    return int((picture[:, : round(0.85 * picture.shape[1])] == class_color(name)).all(axis=2).sum())


def test_the_loss_falls_and_a_killed_run_resumes_to_the_same_weights(options, work_dir, tmp_path, monkeypatch):
    log = next(work_dir.rglob('scalars.json')).read_text()
    losses = [json.loads(line)['loss'] for line in log.splitlines() if '"loss"' in line]
    assert len(losses) == 24 and np.mean(losses[-3:]) < 0.4 * np.mean(losses[:3])
    forward, steps = LaneSegmentor.forward, []

    def dies(self, inputs, data_samples=None, mode='tensor'):
        steps.append(mode)
        # In the middle of the last epoch.
        if len(steps) == 5:
            raise KeyboardInterrupt
        return forward(self, inputs, data_samples, mode)

    monkeypatch.setattr(LaneSegmentor, 'forward', dies)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, options, work_dir=tmp_path, resume=str(work_dir / 'epoch_6.pth'))
    monkeypatch.undo()
    assert (tmp_path / 'epoch_7.pth').exists() and not (tmp_path / 'epoch_8.pth').exists()
    train(CONFIG, options, work_dir=tmp_path, resume=True)
    resumed, whole = weights(tmp_path / 'epoch_8.pth'), weights(work_dir / 'epoch_8.pth')
    assert resumed.keys() == whole.keys()
    assert not [name for name in whole if not torch.equal(resumed[name], whole[name])]


def train_as_one_of_two(rank, port, options, folder):
    """A process of `torchrun`, without its start."""
    import os

    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )
    train(CONFIG, options, work_dir=folder, launcher='pytorch', amp=True)


def test_two_processes_train_in_mixed_precision_and_share_the_images(options, tmp_path):
    settings = [*options, 'max_epochs=1']
    multiprocessing.start_processes(
        train_as_one_of_two, (free_port(), settings, str(tmp_path)), nprocs=2, start_method='fork'
    )
    log = next(tmp_path.rglob('scalars.json')).read_text()
    losses = [json.loads(line)['loss'] for line in log.splitlines() if '"loss"' in line]
    # Three images for two processes: two steps.
    assert len(losses) == 2 and np.isfinite(losses).all() and (tmp_path / 'epoch_1.pth').is_file()


@pytest.mark.parametrize('augmented', [True, False])
def test_lanes_are_browsed_as_stored_and_as_trained_on(options, tmp_path, augmented):
    files = browse(CONFIG, tmp_path, BrowseOptions('train', augmented, count=2, width_px=640), options)
    assert [file.name for file in files] == [
        f'{index:06d}_driver_23_30frame_a.MP4_{name}.png' for index, name in enumerate(('00000', '00030'))
    ]
    assert all(pixels(files[0], name) > 100 for name in SLOTS)
    # The second image has no leftmost lane.
    assert [pixels(files[1], name) > 100 for name in SLOTS] == [False, True, True, True]
    with pytest.raises(InputError, match='images without a LiDAR have no 3D view'):
        browse(CONFIG, tmp_path, BrowseOptions('train', augmented, count=1, view='3d'), options)


def test_an_image_and_a_folder_get_pictures_json_and_lines(root, inferencer, tmp_path):
    picture, described, lines = inferencer.write(root / f'{FOLDER}/00000.jpg', tmp_path)
    assert [path.name for path in (picture, described, lines)] == ['00000.png', '00000.json', '00000.lines.txt']
    content = json.loads(described.read_text())
    assert content['frame'].startswith('image: pixels')
    lanes = content['lanes']
    # The leftmost lanes are in few of the images that it has seen.
    assert lanes['classes'] == list(SLOTS) and {2, 3} <= set(lanes['labels']) and min(lanes['scores']) > 0.1
    assert [lane.tolist() for lane in read_lines(lines)] == lanes['polylines']
    # They are where they were painted: the lanes of the file go right to left.
    painted = dict(zip((3, 2, 1, 0), read_lines(root / f'{FOLDER}/00000.lines.txt')))
    for label, line in zip(lanes['labels'], lanes['polylines']):
        (x, y), (wanted_x, wanted_y) = np.transpose(line), np.transpose(painted[label][::-1])
        wanted = np.interp(y, wanted_y, wanted_x)
        inside = (wanted > 0) & (wanted < HW[1])
        assert label in (0, 1) or np.abs(x - wanted)[inside].mean() < 8
    assert all(pixels(picture, name) > 50 for name in ('right-1', 'right-2'))
    names = [path.name for path in inferencer.write(root / FOLDER, tmp_path / 'all')]
    assert names == [f'{name}{end}' for name in ('00000', '00030') for end in ('.png', '.json', '.lines.txt')]
    with pytest.raises(InputError, match='would be an annotation next to its image'):
        inferencer.write(root / f'{FOLDER}/00000.jpg', root / 'driver_23_30frame/b.MP4')


def test_a_folder_of_images_is_not_written_into(root, inferencer, tmp_path):
    # The picture of the first would have the name of the second.
    for name in ('a.bmp', 'a.png'):
        cv2.imwrite(str(tmp_path / name), read_image(root / f'{FOLDER}/00000.jpg'))
    (tmp_path / 'link').symlink_to(tmp_path)
    with pytest.raises(InputError, match='is the folder of the inputs'):
        inferencer.write(tmp_path, tmp_path / 'link')
    names = [path.name for path in inferencer.write(tmp_path, tmp_path / 'out')]
    assert names == [f'{name}{end}' for name in ('a', 'a_2') for end in ('.png', '.json', '.lines.txt')]


def test_a_video_gets_a_video_a_list_and_the_result_files_of_its_frames(root, inferencer, tmp_path):
    frames = [read_image(root / f'{FOLDER}/{name}.jpg') for name in ('00000', '00030', '00000')]
    writer = cv2.VideoWriter(str(tmp_path / 'drive.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 8, HW[::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    video, listing, *results = inferencer.write(tmp_path / 'drive.avi', tmp_path)
    assert [video.name, listing.name] == ['drive.mp4', 'drive.json']
    assert [str(path.relative_to(tmp_path)) for path in results] == [
        f'drive/drive_{number:06d}.lines.txt' for number in range(3)
    ]
    described = json.loads(listing.read_text())
    assert [frame['token'] for frame in described] == ['drive_000000', 'drive_000001', 'drive_000002']
    assert [lane.tolist() for lane in read_lines(results[2])] == described[2]['lanes']['polylines']
    reader = cv2.VideoCapture(str(video))
    shown = [reader.read()[1] for _ in range(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)))]
    assert len(shown) == 3 and reader.get(cv2.CAP_PROP_FPS) == 8 and shown[0].std() > 10
    # A video is not replaced by what is drawn of it.
    shutil.copy(video, tmp_path / 'again.mp4')
    assert inferencer.write(tmp_path / 'again.mp4', tmp_path)[0].name == 'again_2.mp4'


def test_scores_and_pictures_of_a_test_are_those_of_its_result_files(root, options, checkpoint, tmp_path):
    folders = dict(work_dir=str(tmp_path / 'work'), show_dir=str(tmp_path / 'shown'))
    found = run_test(CONFIG, checkpoint, options, out=tmp_path / 'metrics.json', **folders)
    assert found == json.loads((tmp_path / 'metrics.json').read_text())
    pictures = sorted((tmp_path / 'shown').iterdir())
    names = ['000000_driver_37_30frame_d.MP4_00000.png', '000001_driver_37_30frame_d.MP4_00030.png']
    # Truth and prediction are drawn.
    assert [path.name for path in pictures] == names and all(pixels(pictures[1], name) > 100 for name in SLOTS[2:])
    out = tmp_path / 'results'
    assert run_test(CONFIG, checkpoint, options, work_dir=folders['work_dir'], format_only=str(out)) == {}
    scores, _ = evaluate_folders(root, out, EvaluationOptions(size_wh=HW[::-1], jobs=1), progress=False)
    assert [found[f'culane/{name}'] for name in ('f1', 'precision', 'recall')] == pytest.approx(
        [scores['0.5'][name] for name in ('f1', 'precision', 'recall')], abs=1e-12
    )
    assert found['culane/recall'] > 0.2
    with pytest.raises(InputError, match='which the data set reads: results could overwrite its files'):
        run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path), format_only=str(root / 'driver_37_30frame'))
    with pytest.raises(InputError, match='results have the names of its annotations'):
        run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path), format_only=str(root))


def test_a_dry_run_of_self_distillation_computes_its_links(options, capsys):
    sad = [option for option in options if '+model.decoder' not in option]
    losses = dry_run(config_path('lane_sad_enet_208x976_12e_culane'), [*sad, 'sad_norm=zsoftmax'])
    # 16 of 24 iterations are without them.
    assert 'that of iteration 16 of 24, the first one with all links' in capsys.readouterr().out
    assert losses['distill.two_three.loss'] > 0 and losses['distill.three_four.loss'] > 0


def test_infer_says_how_fast_it_was(root, options, checkpoint, tmp_path, capsys):
    args = [str(CONFIG), str(checkpoint), str(root / FOLDER), '--out', str(tmp_path), '--cfg-options', *options]
    assert infer.main(args) == 0
    printed = capsys.readouterr()
    written, speed = printed.out.strip().splitlines()[-6:], printed.err.strip().splitlines()[-1]
    assert len(written) == 6 and all(Path(line).is_file() for line in written)
    assert speed.startswith('2 frames in ') and 'the model takes' in speed and speed.endswith(' FPS)')


def test_a_data_set_of_another_format_writes_its_own_results(root, options, checkpoint, tmp_path):
    config = load_config(CONFIG, parse_options(options))
    config.test_dataloader.dataset.type = CustomLanesDataset
    written = Inferencer(config, checkpoint, 'cpu').write(root / f'{FOLDER}/00000.jpg', tmp_path)
    assert [path.name for path in written] == ['00000.png', '00000.json', '00000.lanes.json']
    lanes = json.loads(written[1].read_text())['lanes']['polylines']
    line = json.loads(written[2].read_text())
    assert line['image'] == '00000.jpg' and len(line['lanes']) == len(lanes) >= 2


def test_two_lane_models_are_compared_on_the_image(options, work_dir, tmp_path):
    models = [f'{title}={CONFIG},{work_dir}/epoch_{k}.pth' for title, k in (('early', 6), ('late', 8))]
    (path,) = compare(models, [0], tmp_path, parse_options(options), CompareOptions(device='cpu'))
    picture = read_image(path)
    height = 720 * HW[0] // HW[1]
    assert picture.shape == (2 * height, 1440 + 180, 3)
    late, legend = picture[:, 720:1440], picture[:, 1440:]
    assert all((legend == class_color(name)).all(axis=2).sum() > 50 for name in SLOTS)
    assert all((late[:height] == class_color(name)).all(axis=2).sum() > 50 for name in SLOTS)
    # The network does not see the upper quarter, and responds near the lanes below.
    response = late[height:, :719]
    assert response[: height // 5].max() < 60 and (response.sum(axis=2) > 500).mean() > 0.02
    wide = parse_options([*options, 'model.keep_attention=["stage3","stage4"]'])
    (explained,) = compare(models, [0], tmp_path / 'wide', wide, CompareOptions(device='cpu'))
    assert len(read_image(explained)) == 4 * height + 8
    (bare,) = compare(models, [0], tmp_path / 'bare', parse_options(options), CompareOptions('none', device='cpu'))
    assert (read_image(bare) != picture)[height:].any(axis=2).mean() > 0.5
