"""A tracker in test and inference: scenes in turn, frames in order of time, one process; poses move the tracks."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image
from torch import tensor
from walking_people import STEP_S, KeptTracks, write_people

from perception3d.apis.config import load_config
from perception3d.apis.inferencer import Inferencer
from perception3d.apis.testing import _track
from perception3d.apis.testing import test as run_test
from perception3d.checks import InputError
from perception3d.engine.tracking_step import SequenceTracking, TrackingStep
from perception3d.geometry.camera import rigid
from perception3d.models.crowd.tracker import CenterTracker

SETTINGS = dict(type=CenterTracker)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('people')
    write_people(root)
    return root


@pytest.fixture(scope='module')
def config(root: Path) -> Config:
    return load_config(root / 'config.py')


def sample(x: float, scene: str | None, time_s: float | None, **metas) -> Det3DDataSample:
    """A sample with one predicted person at (x, 0)."""
    boxes = LiDARInstance3DBoxes([[x, 0, 0, 0.6, 0.6, 1.7, 0]])
    instances = InstanceData(bboxes_3d=boxes, scores_3d=tensor([0.9]), labels_3d=tensor([0]))
    given = {key: value for key, value in (('scene_token', scene), ('timestamp', time_s)) if value is not None}
    return Det3DDataSample(pred_instances_3d=instances, metainfo={'token': f'{scene}@{time_s}', **given, **metas})


def follow(tracking: SequenceTracking, samples: list[Det3DDataSample]) -> list[list[int]]:
    return [found.pred_tracks.ids.tolist() for found in TrackingStep(lambda data: data, tracking)(samples)]


def test_identities_begin_anew_at_the_border_of_a_sequence():
    tracking = SequenceTracking(SETTINGS, ['person'])
    first = [sample(5.0, 'a', 1.0), sample(5.0, 'a', 1.4), sample(5.0, 'b', 0.5), sample(5.0, 'b', 0.9)]
    assert follow(tracking, first) == [[], [1], [], [1]]
    assert first[1].pred_tracks.classes == ('person',)
    with pytest.raises(InputError, match='sample b@0.9: a tracker needs the frames .* 0.900 s came after 0.900 s'):
        follow(tracking, [sample(5.0, 'b', 0.9)])
    with pytest.raises(InputError, match='scene a that was left before.*shuffling'):
        follow(tracking, [sample(5.0, 'a', 1.8)])


def test_tracks_follow_the_poses_where_both_are_known():
    turned = rigid([np.cos(0.2), 0, 0, np.sin(0.2)], [0.0, 0.0, 0.0])
    poses = [rigid([1, 0, 0, 0], [1.5 * k, 0, 0]) @ turned for k in range(3)]
    # The LiDAR moves 1.5 m a frame, so that a person who stands comes nearer; it looks ahead only with its mounting.
    mounted = dict(ego_from_lidar=np.linalg.inv(turned))
    samples = [sample(9 - 1.5 * k, 's', 0.4 * k, global_from_ego=pose, **mounted) for k, pose in enumerate(poses)]
    tracking = SequenceTracking(SETTINGS, ['person'])
    assert follow(tracking, samples) == [[], [1], [1]]
    np.testing.assert_allclose(samples[2].pred_tracks.history[0], [[6.0, 0, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(samples[2].pred_tracks.boxes.boxes[0, 7:], 0, atol=1e-6)
    without = [sample(9 - 1.5 * k, 's', 0.4 * k, global_from_ego=pose) for k, pose in enumerate(poses)]
    assert follow(SequenceTracking(SETTINGS, ['person']), without) == [[], [], []]


def test_what_cannot_be_tracked_is_named():
    tracking = SequenceTracking(SETTINGS, ['person'])
    with pytest.raises(InputError, match='has no scene_token.*leave `tracker` out'):
        follow(tracking, [sample(1.0, None, 0.5)])
    bare = Det3DDataSample(metainfo={'token': 'x', 'scene_token': 's'})
    with pytest.raises(InputError, match='sample x: the model predicts no 3D boxes with scores'):
        follow(tracking, [bare])
    with pytest.raises(InputError, match='tracker of the config cannot be built.*birth'):
        SequenceTracking(dict(type=CenterTracker, birth=0.5), ['person'])
    with pytest.raises(InputError, match='keep_score <= birth_score'):
        SequenceTracking(dict(type=CenterTracker, keep_score=0.5), ['person'])
    with pytest.raises(InputError, match='needs one process'):
        _track(SimpleNamespace(distributed=True), SETTINGS)


def test_the_metric_of_a_test_sees_tracks(root: Path, config: Config, tmp_path: Path):
    metrics = run_test(config, root / 'weights.pth', work_dir=str(tmp_path))
    assert metrics == {'tracked': pytest.approx((0 + 3 + 3 + 3 + 0 + 3 + 3 + 2) / 8)}
    last = KeptTracks.seen['012_000003']
    assert last.ids.tolist() == [1, 2, 3] and [len(line) for line in last.history] == [3] * 3
    # 0.25, 0.5 and 0.75 m in a frame of 0.4 s, which the first two frames do not settle.
    assert np.abs(last.boxes.boxes[:, 8] - np.array([0.25, 0.5, 0.75]) / STEP_S).max() < 0.15
    assert KeptTracks.seen['013_000003'].ids.tolist() == [1, 2]
    shuffled = copy.deepcopy(config)
    shuffled.test_dataloader.sampler.shuffle = True
    shuffled.randomness = dict(seed=1)
    with pytest.raises(InputError, match='order of time|left before'):
        run_test(shuffled, root / 'weights.pth', work_dir=str(tmp_path))


def test_a_folder_of_clouds_is_a_sequence(root: Path, config: Config, tmp_path: Path):
    # Of bare clouds no time is known: they are the fixed step apart, in the order of the numbers in their names.
    shutil.copytree(root / 'clouds' / '012', tmp_path / 'drive')
    (tmp_path / 'drive' / '3.bin').rename(tmp_path / 'drive' / '10.bin')
    inferencer = Inferencer(config, root / 'weights.pth', device='cpu')
    samples = list(inferencer(tmp_path / 'drive'))
    assert [found.metainfo['token'] for found in samples] == ['0', '1', '2', '10']
    assert [found.pred_tracks.ids.tolist() for found in samples] == [[], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    # Each call begins anew.
    assert [len(found.pred_tracks) for found in inferencer(tmp_path / 'drive')] == [0, 3, 3, 3]
    written = inferencer.write(tmp_path / 'drive', tmp_path / 'out', video='gif')
    files = ['tracks_drive.csv', 'tracks_drive.txt', 'tracks_drive_nusc.json', 'drive.gif']
    assert [path.name for path in written[-4:]] == files and len(written) == 4 * 2 + 4
    table = (tmp_path / 'out' / 'tracks_drive.csv').read_text().splitlines()
    assert len(table) == 1 + 9 and table[-1].startswith('3,10,,3,person,0.9000,')
    assert json.loads((tmp_path / 'out' / '10.json').read_text())['tracks']['ids'] == [1, 2, 3]
    assert Image.open(tmp_path / 'out' / 'drive.gif').n_frames == 4
    # One frame alone is no sequence.
    alone = inferencer.write(tmp_path / 'drive' / '1.bin', tmp_path / 'one', video='gif')
    assert [path.name for path in alone] == ['1.png', '1.json']


def test_submissions_have_the_files_of_tracks_next_to_them(root: Path, config: Config, tmp_path: Path):
    folders = dict(work_dir=str(tmp_path / 'w'), format_only=str(tmp_path / 'out'))
    assert run_test(copy.deepcopy(config), root / 'weights.pth', **folders) == {}
    scenes = [f'tracks_{scene}{suffix}' for scene in ('012', '013') for suffix in ('.csv', '.txt')]
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [*scenes, 'tracks_nusc.json']
    results = json.loads((tmp_path / 'out' / 'tracks_nusc.json').read_text())['results']
    assert {token: len(boxes) for token, boxes in results.items()} == {
        f'{scene}_{frame:06d}': count
        for scene, counts in (('012', [0, 3, 3, 3]), ('013', [0, 3, 3, 2]))
        for frame, count in enumerate(counts)
    }
