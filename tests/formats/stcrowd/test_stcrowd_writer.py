"""The built-in world in STCrowd's layout: the tree, labels by its rules, crowds as dense as its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from perception3d.apis.simulate import simulate
from perception3d.files import read_pickle
from perception3d.formats.stcrowd.files import Frame, Sequence, read_camera, read_sequence, read_split
from perception3d.formats.stcrowd.simulate.labels import LEAST_VISIBLE, occlusion_level
from perception3d.formats.stcrowd.simulate.profiles import PROFILES
from perception3d.formats.stcrowd.simulate.writer import WRITER
from perception3d.simulation.jobs import Request

TRAIN, VAL = ['1', '2', '3', '4'], ['100001', '100002']


def _frames(root: Path) -> list[tuple[Sequence, Frame]]:
    sequences = [read_sequence(root / 'anno' / f'{name}.json') for name in TRAIN + VAL]
    return [(sequence, frame) for sequence in sequences for frame in sequence.frames]


def _cloud(root: Path, frame: Frame) -> np.ndarray:
    return np.fromfile(root / frame.cloud_path, np.float32).reshape(-1, 4)


def test_the_tree_is_that_of_the_release(simulated_stcrowd: Path) -> None:
    assert read_split(simulated_stcrowd / 'split.json') == {'train': TRAIN, 'val': VAL}
    camera = read_camera(simulated_stcrowd / 'camera.json')
    pixels = np.array([[10, 0, 0, 1], [10, 3, 0, 1], [10, -3, 0, 1]]) @ (camera.img_from_cam @ camera.cam_from_lidar).T
    np.testing.assert_allclose(
        pixels[:, :2] / pixels[:, 2:3], [[683.7, 334.1], [477.4, 335.3], [891.1, 332.8]], atol=0.06
    )
    frames = _frames(simulated_stcrowd)
    assert len(frames) == 18 and len({frame.cloud_path for _, frame in frames}) == 18
    for sequence, frame in frames:
        assert (simulated_stcrowd / frame.images[0].path).is_file()
        points = _cloud(simulated_stcrowd, frame)
        # x forward: the ground around the vehicle, 2.1 m below, and no point of the vehicle.
        assert 20_000 < len(points) < 128 * 512 and abs(np.median(points[points[:, 2] < -1.9, 2]) + 2.1) < 0.02
        assert frame.cloud_path.split('/')[1] == sequence.name
    # Image and cloud of a frame have other stamps.
    assert not {Path(frame.cloud_path).stem for _, frame in frames} & {
        Path(frame.images[0].path).stem.split('_')[1] for _, frame in frames
    }


def test_labels_keep_the_rules(simulated_stcrowd: Path) -> None:
    frames = _frames(simulated_stcrowd)
    people = [person for _, frame in frames for person in frame.people]
    assert len(people) > 150 and {person.occlusion for person in people} == {0, 1, 2}
    assert any(person.size_m[2] < 1.2 for person in people)
    for person in people:
        assert person.center_m[0] >= 0 and np.hypot(*person.center_m[:2]) <= 35
        assert abs(person.center_m[2] - person.size_m[2] / 2 + 2.1) < 1e-3
    for split, names in (('train', TRAIN), ('val', VAL)):
        infos = read_pickle(simulated_stcrowd / f'perception3d_infos_{split}.pkl')['data_list']
        assert len(infos) == 3 * len(names)
        # Only those who sit are ignored: others who would be are not labelled.
        for info in infos:
            assert all(instance['num_lidar_pts'] >= 15 for instance in info['instances'])
            assert all('sitting' in person['reason'] for person in info['ignored'])


def test_who_is_hidden_has_fewer_points_than_who_is_seen(simulated_stcrowd: Path) -> None:
    assert [occlusion_level(share) for share in (1.0, LEAST_VISIBLE[0], 0.84, LEAST_VISIBLE[1], 0.49)] == [
        0,
        0,
        1,
        1,
        2,
    ]
    points: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for split in ('train', 'val'):
        for info in read_pickle(simulated_stcrowd / f'perception3d_infos_{split}.pkl')['data_list']:
            for person in info['instances']:
                # Rays on a person fall with the square of the distance.
                distance = np.hypot(*person['bbox_3d'][:2])
                points[person['occlusion']].append(person['num_lidar_pts'] * distance**2)
    median = [np.median(points[level]) for level in (0, 1, 2)]
    assert median[0] > 1.15 * median[1] > 1.3 * median[2]


def test_tracks_move_and_images_show_the_people(simulated_stcrowd: Path) -> None:
    speeds, overlaps = [], []
    camera = read_camera(simulated_stcrowd / 'camera.json')
    for name in TRAIN + VAL:
        sequence = read_sequence(simulated_stcrowd / 'anno' / f'{name}.json')
        for before, after in zip(sequence.frames, sequence.frames[1:]):
            old = {person.track_id: person for person in before.people}
            for person in after.people:
                if person.track_id in old:
                    assert person.size_m == old[person.track_id].size_m
                    step = np.subtract(person.center_m, old[person.track_id].center_m)
                    speeds.append(np.hypot(*step[:2]) / 0.4)
        for frame in sequence.frames:
            shown = {person.track_id: person for person in frame.images[0].people}
            for person in frame.people:
                place = camera.img_from_cam @ camera.cam_from_lidar @ np.array([*person.center_m, 1.0])
                x, y = place[:2] / place[2]
                if place[2] > 2 and 40 < x < 1240 and 40 < y < 680 and person.occlusion == 0:
                    assert person.track_id in shown, 'who is seen by the LiDAR is in the image'
                    left, top, width, height = shown[person.track_id].box_px
                    overlaps.append(left < x < left + width and top < y < top + height)
    assert 0.2 < np.mean(np.array(speeds) > 0.5) < 0.95 and max(speeds) < 2.6
    assert len(overlaps) > 60 and all(overlaps)


def test_crowds_are_as_dense_as_those_of_stcrowd(tmp_path: Path) -> None:
    """On eight sequences of one frame; the 27 of `crowds` are within 10 % (docs/simulation.md)."""
    simulate(WRITER, Request(tmp_path, 0, replace(PROFILES['crowds'], frames=1, shrink=0), 8, 0))
    people, neighbours = [], {2: [], 5: [], 10: []}
    for index in range(8):
        frame = read_sequence(tmp_path / 'anno' / f'{index + 1}.json').frames[0]
        assert frame.images == ()
        places = np.array([person.center_m[:2] for person in frame.people if person.size_m[2] >= 1.2])
        people.append(len(places))
        apart = cdist(places, places)
        for radius, counts in neighbours.items():
            counts.extend(((apart <= radius).sum(1) - 1).tolist())
    assert 15 < np.mean(people) < 26
    for radius, official in ((2, 2.4), (5, 8.0), (10, 15.8)):
        assert abs(np.mean(neighbours[radius]) / official - 1) < 0.25, radius
    # A fifth has four neighbours or more within two metres, a third one at most.
    dense = np.array(neighbours[2])
    assert 0.1 < (dense >= 4).mean() < 0.35 and 0.2 < (dense <= 1).mean() < 0.5


def test_a_sequence_has_the_same_bytes_again(simulated_stcrowd: Path, tmp_path: Path) -> None:
    simulate(WRITER, Request(tmp_path, 0, PROFILES['tiny'], 1, 0))
    for path in sorted(path for path in tmp_path.rglob('*') if path.suffix in ('.bin', '.jpg')):
        assert path.read_bytes() == (simulated_stcrowd / path.relative_to(tmp_path)).read_bytes()
    assert read_sequence(tmp_path / 'anno' / '1.json') == read_sequence(simulated_stcrowd / 'anno' / '1.json')
