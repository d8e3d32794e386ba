"""Files of tracks: the table, the text of the MOT challenge, and the JSON that the nuScenes devkit loads."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import synthetic_structures as synthetic
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.loaders import load_prediction
from nuscenes.eval.tracking.data_classes import TrackingBox
from pyquaternion import Quaternion

from perception3d.evaluation.track_files import COLUMNS, NUSCENES_NAMES, write_tracks
from perception3d.geometry.camera import rigid
from perception3d.outputs import OutputNames
from perception3d.structures.boxes import Boxes
from perception3d.structures.tracks import FrameTracks, Tracks

POSE = rigid([np.cos(0.25), 0, 0, np.sin(0.25)], [100.0, 50.0, 2.0])  # turned by 0.5 rad


def frames() -> list[FrameTracks]:
    """Two frames of scene a with a pose, one of b without: two cars, a person, and a class that nuScenes lacks."""
    tracks = synthetic.tracks()
    unknown = replace(tracks.boxes, labels=np.array([0, 1, 2]), classes=('Car', 'person', 'tram, old'))
    return [
        FrameTracks('t0', 'a', 1.0, tracks, POSE).without_history(),
        FrameTracks('t1', 'a', 1.5, tracks.select(np.array([0])), POSE),
        FrameTracks('t2', 'b', None, Tracks(unknown, tracks.ids)),
        FrameTracks('t3', 'b', None, tracks.select(np.zeros(0, np.int64))),
    ]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tracks')
    written = write_tracks(frames(), OutputNames(folder), 'tracks_nusc')
    names = ['tracks_a.csv', 'tracks_a.txt', 'tracks_b.csv', 'tracks_b.txt', 'tracks_nusc.json']
    assert [path.name for path in written] == names == sorted(path.name for path in folder.iterdir())
    return folder


def test_the_table_has_a_row_for_each_track(folder):
    with open(folder / 'tracks_a.csv', newline='') as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS and [row[:5] for row in rows] == [
        ['0', 't0', '1.000000', '7', 'car'],
        ['0', 't0', '1.000000', '12', 'car'],
        ['0', 't0', '1.000000', '3', 'pedestrian'],
        ['1', 't1', '1.500000', '7', 'car'],
    ]
    box = synthetic.tracks().boxes.boxes[0]
    numbers = np.array(rows[0][5:], float)
    np.testing.assert_allclose(numbers, [0.91, *box[:2], box[2] + box[5] / 2, *box[3:]], atol=1e-4)
    # The person's velocity is not known.
    assert rows[2][-2:] == ['', '']
    with open(folder / 'tracks_b.csv', newline='') as file:
        assert [row[4] for row in csv.reader(file)][1:] == ['Car', 'person', 'tram, old']


def test_lines_of_the_mot_challenge_are_in_the_global_frame_where_it_is_known(folder):
    lines = [line.split(',') for line in (folder / 'tracks_a.txt').read_text().splitlines()]
    assert [line[:7] for line in lines] == [
        [frame, number, '-1', '-1', '-1', '-1', score]
        for frame, number, score in (('1', '7', '0.9100'), ('1', '12', '0.6600'), ('1', '3', '0.5000'),
                                     ('2', '7', '0.9100'))
    ]  # fmt: skip
    feet = synthetic.tracks().boxes.boxes[0, :3]
    np.testing.assert_allclose(np.array(lines[0][7:], float), POSE[:3, :3] @ feet + POSE[:3, 3], atol=1e-3)
    bare = (folder / 'tracks_b.txt').read_text().splitlines()
    np.testing.assert_allclose(np.array(bare[0].split(',')[7:], float), feet, atol=1e-4)
    assert len(bare) == 3


def test_the_devkit_loads_the_tracks(folder):
    assert tuple(config_factory('tracking_nips_2019').tracking_names) == NUSCENES_NAMES
    loaded, meta = load_prediction(str(folder / 'tracks_nusc.json'), 500, TrackingBox)
    assert meta['use_lidar'] and not meta['use_camera'] and meta['frames_without_pose'] == 2
    assert {token: [box.tracking_id for box in loaded[token]] for token in ('t0', 't1', 't2', 't3')} == {
        't0': ['7', '12', '3'], 't1': ['7'], 't2': ['7', '12'], 't3': [],
    }  # fmt: skip
    assert [box.tracking_name for box in loaded['t2']] == ['car', 'pedestrian']
    box, (x, y, z, length, width, height, yaw, vx, vy) = loaded['t0'][0], synthetic.tracks().boxes.boxes[0]
    np.testing.assert_allclose(box.translation, POSE[:3, :3] @ [x, y, z + height / 2] + POSE[:3, 3])
    np.testing.assert_allclose(box.size, [width, length, height])
    np.testing.assert_allclose(Quaternion(box.rotation).yaw_pitch_roll[0], yaw + 0.5)
    np.testing.assert_allclose(box.velocity, (POSE[:3, :3] @ [vx, vy, 0])[:2])
    assert box.tracking_score == pytest.approx(0.91) and loaded['t0'][2].velocity == (0, 0)


def test_equal_names_get_numbers_and_nothing_leads_out_of_the_folder(tmp_path):
    bare = Tracks(Boxes(np.zeros((1, 7)), [0], classes=('car',)), [4])
    made = [FrameTracks('x', scene, None, bare) for scene in ('../../up', 'other/up')]
    (tmp_path / 'tracks_up.csv').write_text('an input')
    written = write_tracks(made, OutputNames(tmp_path), keep=[tmp_path / 'tracks_up.csv'])
    assert [path.name for path in written[:4:2]] == ['tracks_up_2.csv', 'tracks_up_3.csv']
    assert {path.parent for path in written} == {tmp_path}
    assert (tmp_path / 'tracks_up.csv').read_text() == 'an input'
    assert written[0].read_text().splitlines()[1] == ('0,x,,4,car,,0.0000,0.0000,0.0000,0.0000,0.0000,0.0000,0.0000,,')
