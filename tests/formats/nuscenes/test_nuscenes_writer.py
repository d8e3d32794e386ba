"""The written data set, as nuscenes-devkit sees it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.utils import quaternion_yaw
from nuscenes.eval.detection.utils import category_to_detection_name, detection_name_to_rel_attributes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box, view_points
from nuscenes.utils.splits import get_scenes_of_split
from pyquaternion import Quaternion

from perception3d.apis.simulate import simulate
from perception3d.checks import InputError
from perception3d.formats.nuscenes.simulate.profiles import PROFILES, NuScenesProfile
from perception3d.formats.nuscenes.simulate.tables import quaternion, visibility_token
from perception3d.formats.nuscenes.simulate.writer import WRITER, plan_files
from perception3d.simulation.capture import Recorder, count_points
from perception3d.simulation.jobs import SECOND_SPLIT, Request
from perception3d.simulation.profiles import find_profile
from perception3d.simulation.render.camera import trace
from perception3d.simulation.render.raster import owner_visibility
from perception3d.simulation.rig import NUSCENES_RIG, draw_rig
from perception3d.simulation.world.scene import make_scene

TOOL = Path(__file__).resolve().parents[3] / 'tools' / 'simulate.py'
SMALL = NuScenesProfile('small', 128, 48, 1, 3, False, 2, 1, 0.4, 95)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('world') / 'data'
    simulate(WRITER, Request(folder, 1, SMALL, 2, 1), jobs=1)
    return folder


@pytest.fixture(scope='module')
def nusc(root: Path) -> NuScenes:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return NuScenes('v1.0-sim', str(root), verbose=False)


@pytest.fixture(scope='module')
def recorder() -> Recorder:
    """The first scene, made again."""
    return Recorder(make_scene(1, 0, 1.0), draw_rig(np.random.default_rng([1, 0, 77]), NUSCENES_RIG, 128, 48), SMALL)


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


def test_tables_link(nusc: NuScenes) -> None:
    assert [s['name'] for s in nusc.scene] == ['scene-0001', 'scene-0002', f'scene-{SECOND_SPLIT + 1:04d}']
    assert get_scenes_of_split('sim_train', nusc) == ['scene-0001', 'scene-0002']
    assert get_scenes_of_split('sim_val', nusc) == [f'scene-{SECOND_SPLIT + 1:04d}']
    for scene in nusc.scene:
        chain, token = [], scene['first_sample_token']
        while token:
            chain.append(nusc.get('sample', token))
            token = chain[-1]['next']
        assert len(chain) == scene['nbr_samples'] == 3 and chain[-1]['token'] == scene['last_sample_token']
        assert [b['timestamp'] - a['timestamp'] for a, b in zip(chain, chain[1:])] == [500_000] * 2
        assert nusc.get('log', scene['log_token'])['map_token']
    for sample in nusc.sample:
        assert set(sample['data']) == {'LIDAR_TOP', *(c.name for c in NUSCENES_RIG.cameras)}
        for channel, token in sample['data'].items():
            row = nusc.get('sample_data', token)
            assert Path(nusc.dataroot, row['filename']).is_file()
            assert (
                row['filename'].startswith(f'samples/{channel}/')
                and f'__{channel}__{row["timestamp"]}.' in row['filename']
            )
            assert row['timestamp'] == nusc.get('ego_pose', row['ego_pose_token'])['timestamp']
            if channel != 'LIDAR_TOP':
                assert 0 <= sample['timestamp'] - row['timestamp'] < 50_000
                image = cv2.imread(str(Path(nusc.dataroot, row['filename'])))
                assert image.shape == (row['height'], row['width'], 3) == (48, 128, 3)


def test_instances_and_attributes(nusc: NuScenes) -> None:
    for instance in nusc.instance:
        token, seen = instance['first_annotation_token'], []
        while token:
            row = nusc.get('sample_annotation', token)
            assert row['instance_token'] == instance['token']
            seen.append(row)
            token = row['next']
        assert len(seen) == instance['nbr_annotations'] and seen[-1]['token'] == instance['last_annotation_token']
        assert all(a['prev'] == b['token'] for b, a in zip(seen, seen[1:]))
    for row in nusc.sample_annotation:
        name = category_to_detection_name(row['category_name'])
        attributes = [nusc.get('attribute', t)['name'] for t in row['attribute_tokens']]
        allowed = detection_name_to_rel_attributes(name)
        assert len(attributes) == bool(allowed) and set(attributes) <= set(allowed)


def test_points_in_boxes_are_counted_as_the_devkit_counts(nusc: NuScenes) -> None:
    counted = 0
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample['data']['LIDAR_TOP'])
        cloud = LidarPointCloud.from_file(path)
        assert 15_000 < cloud.points.shape[1] <= 32 * 1090
        for box in boxes:
            row = nusc.get('sample_annotation', box.token)
            assert points_in_box(box, cloud.points[:3]).sum() == row['num_lidar_pts']
            counted += row['num_lidar_pts'] > 0
    assert counted > 60


def test_velocity_is_the_true_motion(nusc: NuScenes, recorder: Recorder) -> None:
    scene = recorder.scene
    sizes = np.array([a.body.size_m for a in scene.agents])
    true_speeds = np.linalg.norm((scene.poses(1.0) - scene.poses(0.0))[:, :2], axis=1)
    sample = nusc.get('sample', nusc.get('sample', nusc.scene[0]['first_sample_token'])['next'])
    fast = 0
    for token in sample['anns']:
        row = nusc.get('sample_annotation', token)
        if not row['prev'] or not row['next']:
            continue
        agent = int(np.argmin(np.abs(sizes - np.array(row['size'])[[1, 0, 2]]).sum(1)))
        velocity = nusc.box_velocity(token)[:2]
        # The LiDAR hits a box at another time of each revolution, up to 0.05 s in the two keyframes' 1 s.
        assert abs(true_speeds[agent] - np.linalg.norm(velocity)) <= 0.05 * true_speeds[agent] + 1e-6
        if true_speeds[agent] > 1:
            error = quaternion_yaw(Quaternion(row['rotation'])) - np.arctan2(velocity[1], velocity[0])
            assert abs(np.angle(np.exp(1j * error))) < 0.15
            fast += 1
    assert fast > 3


def test_points_of_an_object_lie_in_its_box(recorder: Recorder) -> None:
    """Moving objects too: a box is where its object was when the LiDAR hit it."""
    scene = recorder.scene
    moving = standing = 0
    for time_s in (0.0, 0.5, 1.0):
        sweep, _ = recorder.sweep(time_s)
        world_from_lidar = scene.world_from_ego(time_s) @ recorder.rig.lidar.ego_from_lidar()
        owners = sweep.owner
        boxes = recorder.boxes(time_s)
        for agent in np.unique(owners[owners >= 0]):
            points = sweep.points[owners == agent, :3]
            if len(points) < 12:
                continue
            assert count_points(points, world_from_lidar, boxes[agent : agent + 1])[0] >= 0.75 * len(points)
            moving += scene.speeds(time_s)[agent] > 3
            standing += scene.speeds(time_s)[agent] == 0
    assert moving > 3 and standing > 10


def test_boxes_lie_on_the_rendered_objects(nusc: NuScenes, recorder: Recorder) -> None:
    """Unhidden objects fill the box that the devkit projects: their pixels are inside and cover most of it."""
    scene = recorder.scene
    sample = nusc.get('sample', nusc.scene[0]['first_sample_token'])
    sizes = np.array([a.body.size_m for a in scene.agents])
    width, height = 640, 240
    checked, moving = 0, 0
    for small in recorder.rig.cameras:
        camera = small.resized(width, height)
        time_s = -camera.lead_s
        solids = scene.solids(time_s)
        pose = scene.world_from_ego(time_s) @ camera.ego_from_cam()
        _, boxes, intrinsic = nusc.get_sample_data(sample['data'][camera.name])
        np.testing.assert_allclose(intrinsic, small.intrinsics())
        _, ids, view = trace(solids, pose, camera.intrinsics(), height, width)
        covered = owner_visibility(view, solids.owner, ids, len(sizes))
        owners = np.where(ids >= 0, solids.owner[np.maximum(ids, 0)], -1)
        for box in boxes:
            agent = int(np.argmin(np.abs(sizes - box.wlh[[1, 0, 2]]).sum(1)))
            mask = owners == agent
            uv = view_points(box.corners(), camera.intrinsics(), normalize=True)[:2]
            low, high = uv.min(1), uv.max(1)
            outside = (low < 0).any() or (high >= (width, height)).any() or (box.corners()[2] < 0.5).any()
            if outside or mask.sum() < 60 or covered[agent, 1] < 0.99 * covered[agent, 0]:
                continue
            v, u = np.nonzero(mask)
            seen_low, seen_high = np.array([u.min(), v.min()]), np.array([u.max(), v.max()])
            slack = 1 + 0.06 * (high - low)
            assert (seen_low >= low - slack).all() and (seen_high <= high + slack).all()
            assert ((seen_high - seen_low + 1) >= 0.75 * (high - low) - 1).all()
            checked += 1
            moving += scene.speeds(time_s)[agent] > 1
    assert checked >= 6 and moving >= 2


def test_same_seed_same_bytes_with_more_processes(root: Path, tmp_path: Path) -> None:
    simulate(WRITER, Request(tmp_path / 'b', 1, SMALL, 2, 1), jobs=2)
    first, second = _files(root), _files(tmp_path / 'b')
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert len([name for name in first if name.endswith('.jpg')]) == 3 * 3 * 6


def _digests(root: Path) -> dict[str, str]:
    """Digest of all maps, clouds and tables; numbers of tables to 6 decimals, as processors differ in the last.

    Those of camera images are in tests/simulation/test_seed_digests.py, taken before they become JPEG files.
    """
    digests = {suffix: hashlib.sha256() for suffix in ('.png', '.bin', '.json')}
    for path in sorted((root / 'samples').rglob('*.bin')):
        digests[path.suffix].update(path.read_bytes())
    for path in sorted((root / 'maps').iterdir()):
        digests[path.suffix].update(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tobytes())
    for path in sorted((root / 'v1.0-sim').iterdir()):
        rows = json.loads(path.read_text(), parse_float=lambda text: round(float(text), 6) + 0.0)
        digests[path.suffix].update(json.dumps(rows).encode())
    return {suffix: digest.hexdigest()[:16] for suffix, digest in digests.items()}


def test_the_world_of_a_seed_is_the_one_of_all_results(root: Path) -> None:
    # What documented results were measured on; a change on purpose raises WORLD_VERSION.
    assert _digests(root) == {
        '.png': '3fa8a1aad0bfd66b',
        '.bin': '3bb08bd3a402f42f',
        '.json': 'b99143aed2ddcada',
    }


def test_resumes_after_a_kill(root: Path, tmp_path: Path) -> None:
    out = tmp_path / 'killed'
    code = (
        'from pathlib import Path; from perception3d.apis.simulate import simulate;'
        'from perception3d.simulation.jobs import Request;'
        'from perception3d.formats.nuscenes.simulate.profiles import NuScenesProfile;'
        'from perception3d.formats.nuscenes.simulate.writer import WRITER;'
        f'simulate(WRITER, Request(Path({str(out)!r}), 1, NuScenesProfile{tuple(vars(SMALL).values())}, 2, 1), 1)'
    )
    process = subprocess.Popen([sys.executable, '-c', code], cwd=TOOL.parents[1], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / '.scenes' / 'scene-0001.json').is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / 'v1.0-sim').exists()
    leftover = out / 'samples' / 'CAM_FRONT' / '.half-written.jpg'
    leftover.write_bytes(b'half')
    kept = os.stat(out / '.scenes' / 'scene-0001.json').st_mtime_ns
    done = simulate(WRITER, Request(out, 1, SMALL, 2, 1), jobs=1)
    assert done['made'] < 3
    assert os.stat(out / '.scenes' / 'scene-0001.json').st_mtime_ns == kept
    assert _files(out) == _files(root)


def test_more_scenes_may_be_added_but_nothing_else_changed(root: Path, tmp_path: Path) -> None:
    out = tmp_path / 'grown'
    tiny = replace(SMALL, width=64, height=24, keyframes=1)
    simulate(WRITER, Request(out, 2, tiny, 1, 0), jobs=1)
    assert simulate(WRITER, Request(out, 2, tiny, 2, 0), jobs=1)['made'] == 1
    before = _files(out)
    for request in (Request(out, 3, tiny, 2, 0), Request(out, 2, SMALL, 2, 0), Request(out, 2, tiny, 1, 0)):
        with pytest.raises(InputError, match='other settings'):
            simulate(WRITER, request, jobs=1)
    assert _files(out) == before


def test_sweeps_between_keyframes() -> None:
    files = plan_files(NUSCENES_RIG.cameras, 'LIDAR_TOP', 3, True)
    lidar = [s for s in files if s.channel == 'LIDAR_TOP']
    front = [s for s in files if s.channel == 'CAM_FRONT']
    assert len(lidar) == 21 and len(front) == 13
    np.testing.assert_allclose(np.diff([s.time_s for s in lidar]), 0.05)
    assert set(np.round(np.diff([s.time_s for s in front]), 3)) == {0.05, 0.1}
    assert [s.keyframe for s in lidar] == [0] + [1] * 10 + [2] * 10
    assert [s.is_key for s in front] == [k % 6 == 0 for k in range(13)]
    assert all(s.is_key for s in plan_files(NUSCENES_RIG.cameras, 'LIDAR_TOP', 3, False))


def test_default_profile_writes_linked_sweeps(tmp_path: Path) -> None:
    profile = replace(PROFILES['default'], width=64, height=36, keyframes=2)
    simulate(WRITER, Request(tmp_path / 'd', 0, profile, 1, 0), jobs=1)
    nusc = NuScenes('v1.0-sim', str(tmp_path / 'd'), verbose=False)
    sample = nusc.sample[0]
    for channel, count in (('LIDAR_TOP', 11), ('CAM_BACK', 7)):
        rows = [nusc.get('sample_data', sample['data'][channel])]
        while rows[-1]['next']:
            rows.append(nusc.get('sample_data', rows[-1]['next']))
        assert len(rows) == count
        assert all(b['prev'] == a['token'] and b['timestamp'] > a['timestamp'] for a, b in zip(rows, rows[1:]))
        assert [r['filename'].split('/')[0] for r in rows] == ['samples'] + ['sweeps'] * (count - 2) + ['samples']
        assert {r['sample_token'] for r in rows[1:]} == {nusc.sample[1]['token']}
        assert all(Path(nusc.dataroot, r['filename']).stat().st_size > 300 for r in rows)


def test_real_rig_values() -> None:
    """Where nuScenes has its sensors, to a few centimetres and degrees (its published calibration of one car)."""
    expected = {
        'CAM_FRONT': (1.70, 0.02, 1.51, 0.3, 1266), 'CAM_FRONT_RIGHT': (1.55, -0.49, 1.50, -56.4, 1261),
        'CAM_FRONT_LEFT': (1.52, 0.49, 1.51, 55.2, 1273), 'CAM_BACK': (0.03, 0.0, 1.58, 179.9, 809),
        'CAM_BACK_LEFT': (1.04, 0.48, 1.59, 108.6, 1257), 'CAM_BACK_RIGHT': (1.01, -0.48, 1.56, -110.8, 1260),
    }  # fmt: skip
    for camera in NUSCENES_RIG.cameras:
        x, y, z, yaw, focal = expected[camera.name]
        np.testing.assert_allclose(camera.place_m, (x, y, z), atol=0.03)
        assert abs(np.angle(np.exp(1j * (camera.yaw_rad - np.deg2rad(yaw))))) < 0.02
        assert abs(camera.focal - focal) < 12
        axis = camera.ego_from_cam()[:3, 2]
        np.testing.assert_allclose(axis, (np.cos(camera.yaw_rad), np.sin(camera.yaw_rad), 0), atol=1e-9)
    np.testing.assert_allclose(NUSCENES_RIG.lidar.ego_from_lidar()[:3, :2], [[0, 1], [-1, 0], [0, 0]], atol=1e-9)
    order = sorted(NUSCENES_RIG.cameras, key=lambda c: -c.lead_s)
    assert [c.name[4:] for c in order] == ['FRONT_LEFT', 'FRONT', 'FRONT_RIGHT', 'BACK_RIGHT', 'BACK', 'BACK_LEFT']


def test_quaternions_and_visibility() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        q = Quaternion.random() if rng.random() < 0 else Quaternion(rng.normal(size=4)).normalised
        np.testing.assert_allclose(
            Quaternion(quaternion(q.rotation_matrix)).rotation_matrix, q.rotation_matrix, atol=1e-9
        )
    shares = [(100, 0), (100, 39), (100, 41), (100, 61), (100, 81), (100, 100), (0, 0)]
    assert [visibility_token(*s) for s in shares] == ['1', '1', '2', '3', '4', '4', '1']


def test_bad_input_is_one_line(tmp_path: Path, root: Path) -> None:
    full = tmp_path / 'full'
    full.mkdir()
    (full / 'photo.jpg').write_bytes(b'x')
    cases = [
        (['nuscens', '--out', tmp_path / 'a'], "unknown format 'nuscens': did you mean 'nuscenes'"),
        (['nuscenes', '--out', tmp_path / 'a', '--profile', 'tinny'], "unknown profile 'tinny': did you mean 'tiny'?"),
        (['nuscenes', '--out', full], 'already holds other files'),
        (['nuscenes', '--out', full / 'photo.jpg'], 'is a file'),
        (['nuscenes', '--out', root, '--profile', 'tiny', '--scenes', '2'], 'was made with other settings'),
        (['nuscenes', '--out', tmp_path / 'a', '--scenes', '0'], 'give --scenes 1 to 100000'),
        (['nuscenes', '--out', tmp_path / 'a', '--keyframes', '0'], 'give --keyframes 1 or more'),
        (['nuscenes', '--out', tmp_path / 'a', '--seed', '-1'], 'seed -1'),
        (['nuscenes', '--out', tmp_path / 'a', '--jobs', '0'], '0 jobs'),
    ]
    for arguments, text in cases:
        result = subprocess.run(
            [sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path
        )
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith('error: ') and result.stderr.count('\n') == 1 and text in result.stderr
    assert not (tmp_path / 'a').exists()
    assert [p.name for p in full.iterdir()] == ['photo.jpg']


def test_help_and_profiles() -> None:
    result = subprocess.run([sys.executable, TOOL, '--help'], capture_output=True, text=True)
    assert result.returncode == 0 and 'python tools/simulate.py nuscenes' in result.stdout
    assert find_profile('default', PROFILES).width == 1600 and find_profile('tiny', PROFILES).height == 96
    assert json.dumps(sorted(PROFILES))
