"""The built-in world in SemanticKITTI's format: all classes, labels on the right points, poses, moving objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from perception3d.apis.simulate import simulate
from perception3d.files import read_pickle
from perception3d.formats.semantickitti.files import CLASSES, LABEL_IDS, label_encoding
from perception3d.formats.semantickitti.poses import read_poses, read_times
from perception3d.formats.semantickitti.simulate.labels import annotated_name, has_instance
from perception3d.formats.semantickitti.simulate.profiles import POPULATION, PROFILES
from perception3d.formats.semantickitti.simulate.writer import TEST_INDEX, VAL_INDEX, WRITER, place_of
from perception3d.simulation.jobs import Request
from perception3d.simulation.world.agents import make_body, still


def _scan(root: Path, sequence: str, scan: int) -> tuple[np.ndarray, np.ndarray]:
    folder = root / 'sequences' / sequence
    points = np.fromfile(folder / 'velodyne' / f'{scan:06d}.bin', np.float32).reshape(-1, 4)
    return points, np.fromfile(folder / 'labels' / f'{scan:06d}.label', np.uint32)


def test_the_validation_split_holds_all_classes(simulated_semantickitti: Path) -> None:
    encoding, counts = label_encoding(), np.zeros(256, int)
    infos = read_pickle(simulated_semantickitti / 'perception3d_infos_val.pkl')['data_list']
    for info in infos:
        path = simulated_semantickitti / info['pts_semantic_mask_path']
        counts += np.bincount(encoding.labels(encoding.read(path), path), minlength=256)
    rare = {name: int(counts[label]) for label, name in enumerate(CLASSES) if counts[label] < 10}
    assert len(infos) == 8 and not rare
    # Rare classes are rare, and little is not scored.
    share = counts / counts.sum()
    assert share[CLASSES.index('road')] > 0.15 and share[255] < 0.05
    for name in ('person', 'bicyclist', 'motorcyclist', 'pole', 'traffic-sign'):
        assert share[CLASSES.index(name)] < 0.03, name


def test_labels_lie_where_their_surface_is(simulated_semantickitti: Path) -> None:
    heights: dict[str, list[np.ndarray]] = {}
    for scan in range(8):
        points, labels = _scan(simulated_semantickitti, '08', scan)
        for name in ('road', 'parking', 'sidewalk', 'other-ground', 'terrain', 'traffic-sign', 'building'):
            heights.setdefault(name, []).append(points[(labels & 0xFFFF) == LABEL_IDS[name], 2])
    height = {name: np.median(np.concatenate(parts)) for name, parts in heights.items()}
    for name in ('road', 'parking'):
        assert abs(height[name] + 1.73) < 0.06, name
    for name in ('sidewalk', 'terrain', 'other-ground'):
        assert 0.08 < height[name] - height['road'] < 0.22, name
    # Signs are above people.
    assert height['traffic-sign'] > 0.1 and height['building'] > -1.0


def test_poses_bring_scans_together_and_moving_objects_apart(simulated_semantickitti: Path) -> None:
    folder = simulated_semantickitti / 'sequences' / '08'
    poses, times = read_poses(folder, 8), read_times(folder / 'times.txt', 8)
    np.testing.assert_allclose(times, [0, 0.1, 60, 60.1, 120, 120.1, 180, 180.1])
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
    assert np.linalg.norm(poses[2, :3, 3]) > 900
    driven = shifted = 0.0
    gaps: list[float] = []
    for first in range(0, 8, 2):
        (before, old), (after, new) = (_scan(simulated_semantickitti, '08', first + k) for k in (0, 1))
        now_from_then = np.linalg.inv(poses[first + 1]) @ poses[first]
        driven += np.linalg.norm(now_from_then[:3, 3])
        moved = before[:, :3] @ now_from_then[:3, :3].T + now_from_then[:3, 3]
        walls = [
            cloud[(labels & 0xFFFF) == LABEL_IDS['building'], :3] for cloud, labels in ((moved, old), (after, new))
        ]
        if min(map(len, walls)) > 100:
            gap = cKDTree(walls[1]).query(walls[0])[0]
            assert np.median(gap) < 0.6
        for label in np.intersect1d(old, new):
            number, instance = label & 0xFFFF, label >> 16
            here, there = moved[old == label], after[new == label, :3]
            if instance and min(len(here), len(there)) > 60:
                if number >= 252:
                    shifted = max(shifted, np.linalg.norm(here.mean(0)[:2] - there.mean(0)[:2]))
                else:
                    gaps.append(np.median(cKDTree(there).query(here)[0]))
    # The points on an object are others in each scan, its surface is the same.
    assert driven > 1.0 and shifted > 0.3 and len(gaps) > 5 and np.median(gaps) < 0.2


def test_the_test_sequence_has_no_labels(simulated_semantickitti: Path) -> None:
    sequences = simulated_semantickitti / 'sequences'
    assert sorted(path.name for path in sequences.iterdir()) == ['00', '01', '08', '11']
    assert not (sequences / '11' / 'labels').exists() and len(list((sequences / '11' / 'velodyne').iterdir())) == 2
    assert all((path / 'calib.txt').read_text().count('\n') == 5 for path in sequences.iterdir())


def test_scenes_have_a_place_of_their_own_that_does_not_depend_on_their_number() -> None:
    places = [place_of(index) for index in [*range(30), *range(VAL_INDEX, VAL_INDEX + 5), TEST_INDEX]]
    assert len({(place.sequence, place.number) for place in places}) == len(places)
    assert {place.sequence for place in places} == {f'{k:02d}' for k in range(12)}
    assert [place.number for place in places[:30] if place.sequence == '10'] == [0, 1, 2]


def test_more_scenes_leave_the_scans_of_the_first_ones(tmp_path: Path) -> None:
    simulate(WRITER, Request(tmp_path, 3, PROFILES['tiny'], 1, 0))
    before = {path: path.read_bytes() for path in (tmp_path / 'sequences' / '00').rglob('0*')}
    simulate(WRITER, Request(tmp_path, 3, PROFILES['tiny'], 2, 0))
    assert len(before) == 4 and all(path.read_bytes() == content for path, content in before.items())
    assert (tmp_path / 'sequences' / '01' / 'poses.txt').read_text().count('\n') == 2


@pytest.mark.parametrize(
    ('name', 'rider', 'parked', 'moves', 'expected'),
    [
        ('van', False, False, True, 'moving-car'),
        ('tram', False, False, True, 'moving-on-rails'),
        ('trailer', False, False, True, 'moving-truck'),
        ('trailer', False, True, False, 'other-vehicle'),
        ('motorcycle', True, False, True, 'moving-motorcyclist'),
        ('bicycle', True, False, False, 'bicyclist'),
        ('bicycle', False, True, False, 'bicycle'),
        ('barrier', False, True, False, 'fence'),
    ],
)
def test_objects_have_the_names_of_the_data_set(name, rider, parked, moves, expected) -> None:
    body = make_body(np.random.default_rng(0), name, rider, classes=POPULATION.classes)
    agent = still(body, 0.0, 0.0, 0.0, 3, parked)
    assert annotated_name(agent, moves) == expected and has_instance(agent) == (name != 'barrier')
