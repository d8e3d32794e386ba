"""The written KITTI data set: layout, labels against points and images, and what an annotator would leave out."""

from __future__ import annotations

import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perception3d.apis.simulate import simulate
from perception3d.checks import InputError
from perception3d.files import read_image, read_points
from perception3d.formats.kitti.files import Calibration, Objects, observation_angle, read_calibration, read_objects
from perception3d.formats.kitti.simulate.labels import (
    Observation,
    kitti_type,
    make_labels,
    occlusion_levels,
    project_boxes,
)
from perception3d.formats.kitti.simulate.profiles import PROFILES, KittiProfile
from perception3d.formats.kitti.simulate.writer import WRITER, calibrate, make_recorder, record_points
from perception3d.formats.nuscenes.simulate import writer as nuscenes
from perception3d.formats.nuscenes.simulate.profiles import PROFILES as NUSCENES_PROFILES
from perception3d.simulation.jobs import SECOND_SPLIT, Request
from perception3d.simulation.rig import HDL64E, KITTI_RIG, draw_kitti_rig
from perception3d.simulation.world.agents import make_body
from perception3d.simulation.world.population import KITTI_POPULATION

TOOL = Path(__file__).resolve().parents[3] / 'tools' / 'simulate.py'
SMALL = KittiProfile('small', 1, 1000, ('image_2',), 6, 1, 0.4)
TRAIN, VAL = [f'{k:06d}' for k in range(6)], [f'{SECOND_SPLIT + k:06d}' for k in range(1)]
DONT_CARE = [-1, -1, -10, -1, -1, -1, -1000, -1000, -1000, -10]


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('world') / 'data'
    simulate(WRITER, Request(folder, 2, SMALL, 6, 1), jobs=1)
    return folder


@pytest.fixture(scope='module')
def frames(root: Path) -> dict[str, tuple[Objects, Calibration, np.ndarray]]:
    """Labels without DontCare, calibration and points by frame name."""
    found = {}
    for name in TRAIN + VAL:
        folder = root / 'training'
        objects = read_objects(folder / 'label_2' / f'{name}.txt')
        found[name] = (
            objects.select(objects.names != 'DontCare'),
            read_calibration(folder / 'calib' / f'{name}.txt'),
            read_points(folder / 'velodyne' / f'{name}.bin', 4),
        )
    return found


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


def _into_box(objects: Objects, i: int, points_cam: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the camera frame along the length, height (0 at the bottom) and width of box i."""
    offset = points_cam - objects.bottom_centers_m[i]
    cos, sin = np.cos(objects.rotation_y_rad[i]), np.sin(objects.rotation_y_rad[i])
    return np.stack(
        [offset[:, 0] * cos - offset[:, 2] * sin, -offset[:, 1], offset[:, 0] * sin + offset[:, 2] * cos], 1
    )


def _inside(objects: Objects, i: int, points_cam: np.ndarray, slack: float = 0.0) -> np.ndarray:
    height, width, length = objects.sizes_m[i]
    along, up, across = _into_box(objects, i, points_cam).T
    flat = (np.abs(along) <= length / 2 + slack) & (np.abs(across) <= width / 2 + slack)
    return flat & (up >= -slack) & (up <= height + slack)


def _corners(objects: Objects, i: int) -> np.ndarray:
    height, width, length = objects.sizes_m[i]
    cos, sin = np.cos(objects.rotation_y_rad[i]), np.sin(objects.rotation_y_rad[i])
    corners = []
    for along in (-length / 2, length / 2):
        for across in (-width / 2, width / 2):
            for up in (0.0, height):
                offset = [along * cos + across * sin, -up, -along * sin + across * cos]
                corners.append(objects.bottom_centers_m[i] + offset)
    return np.array(corners)


def _to_camera(points: np.ndarray, calibration: Calibration) -> np.ndarray:
    matrix = calibration.cam_from_lidar()
    return points[:, :3].astype(float) @ matrix[:3, :3].T + matrix[:3, 3]


def _to_pixels(points_cam: np.ndarray, calibration: Calibration, camera: int = 2) -> np.ndarray:
    spots = points_cam @ calibration.projections[camera][:, :3].T + calibration.projections[camera][:, 3]
    return spots[:, :2] / spots[:, 2:]


def _difficulty(objects: Objects) -> np.ndarray:
    """0 easy, 1 moderate, 2 hard, 3 none, by the benchmark's limits."""
    height = objects.boxes_2d[:, 3] - objects.boxes_2d[:, 1]
    levels = np.full(len(objects), 3)
    for level, (least, hidden, cut) in reversed(list(enumerate([(40, 0, 0.15), (25, 1, 0.3), (25, 2, 0.5)]))):
        levels[(height > least) & (objects.occluded <= hidden) & (objects.truncated <= cut)] = level
    return levels


def test_layout_is_complete(root: Path, frames: dict) -> None:
    sets = {p.stem: p.read_text().split() for p in (root / 'ImageSets').iterdir()}
    assert sets == {'train': TRAIN, 'val': VAL, 'trainval': TRAIN + VAL, 'test': ['000000', '000001']}
    for folder, names in (('training', TRAIN + VAL), ('testing', sets['test'])):
        parts = {'velodyne': '.bin', 'image_2': '.png', 'calib': '.txt'}
        if folder == 'training':
            parts['label_2'] = '.txt'
        assert sorted(p.name for p in (root / folder).iterdir()) == sorted(parts)
        for part, suffix in parts.items():
            assert sorted(p.name for p in (root / folder / part).iterdir()) == sorted(n + suffix for n in names)
    for name in TRAIN[:2] + VAL[:1]:
        assert read_image(root / 'training' / 'image_2' / f'{name}.png').shape == (375, 1242, 3)
    for _, _, points in frames.values():
        assert 35_000 < len(points) <= 64 * 1000
        assert points[:, 3].min() >= 0 and points[:, 3].max() <= 1 and 0.1 < points[:, 3].mean() < 0.5
        azimuth = np.arctan2(points[:, 1], points[:, 0])
        assert (np.histogram(azimuth, 8, (-np.pi, np.pi))[0] > 1000).all()
        assert np.linalg.norm(points[:, :3], axis=1).min() >= 0.9 and points[:, 0].max() <= 121
        # The road is 1.73 m below the LiDAR.
        assert abs(np.quantile(points[np.hypot(points[:, 0], points[:, 1]) < 8, 2], 0.1) + 1.73) < 0.1


def test_splits_and_frames_share_nothing(root: Path) -> None:
    for part in ('image_2', 'velodyne', 'label_2'):
        contents = [p.read_bytes() for f in ('training', 'testing') for p in (root / f).glob(f'{part}/*')]
        assert len(set(contents)) == len(contents) >= 7


def test_rectangles_are_the_projected_boxes(frames: dict) -> None:
    whole = cut = 0
    for objects, calibration, _ in frames.values():
        assert (objects.boxes_2d >= 0).all() and (objects.boxes_2d <= [1241, 374, 1241, 374]).all()
        for i in range(len(objects)):
            corners = _corners(objects, i)
            if corners[:, 2].min() < 0.2:
                continue
            pixels = _to_pixels(corners, calibration)
            full = np.concatenate([pixels.min(0), pixels.max(0)])
            clipped = np.clip(full, 0, [1241, 374, 1241, 374])
            np.testing.assert_allclose(objects.boxes_2d[i], clipped, atol=0.0051)
            shares = [np.prod(box[2:] - box[:2]) for box in (clipped, full)]
            assert abs(objects.truncated[i] - (1 - shares[0] / shares[1])) <= 0.0051
            whole += objects.truncated[i] == 0
            cut += objects.truncated[i] > 0.1
    assert whole > 50 and cut > 3


def test_alpha_fits_to_rotation_y(frames: dict) -> None:
    for objects, _, _ in frames.values():
        expected = observation_angle(objects.bottom_centers_m, objects.rotation_y_rad)
        assert np.abs(np.angle(np.exp(1j * (objects.alpha_rad - expected)))).max() <= 0.0051
        assert np.abs(objects.alpha_rad).max() <= 3.15 and np.abs(objects.rotation_y_rad).max() <= 3.15


def test_boxes_lie_on_points_and_nothing_else(frames: dict) -> None:
    """Also on moving objects, and although the ego vehicle moved during the revolution."""
    cars = others = moving = 0
    for k, name in enumerate(TRAIN):
        objects, calibration, points = frames[name]
        recorder = make_recorder(Request(Path(), 2, SMALL, 6, 1), k)
        np.testing.assert_array_equal(points, record_points(recorder))
        solid = recorder.sweep(0.05)[0].solid
        solids = recorder.scene.solids(0.05)
        owners = np.where(solid >= 0, solids.owner[np.maximum(solid, 0)], -1)
        points_cam = _to_camera(points, calibration)
        for i in np.flatnonzero((_difficulty(objects) == 0) & (objects.bottom_centers_m[:, 2] > 4)):
            inside = _inside(objects, i, points_cam)
            owner = np.bincount(owners[inside & (owners >= 0)]).argmax()
            own = owners == owner
            is_car = objects.names[i] == 'Car'
            assert inside.sum() > (40 if is_car else 10)
            # The box touches the road: it may contain road points that the range noise lifts by a few centimetres.
            assert not ((solid == -1) & inside & (_into_box(objects, i, points_cam)[:, 1] > 0.07)).any()
            assert (own & inside).sum() >= 0.98 * (inside & (solid >= 0)).sum()
            assert (own & _inside(objects, i, points_cam, 0.05)).sum() >= 0.95 * own.sum()
            assert kitti_type(recorder.scene.agents[owner].body) == objects.names[i]
            pixels = _to_pixels(points_cam[own & inside], calibration)
            low, high = objects.boxes_2d[i, :2] - 1, objects.boxes_2d[i, 2:] + 1
            on_image = ((pixels >= 0) & (pixels <= [1241, 374])).all(1)
            assert ((pixels >= low) & (pixels <= high)).all(1)[on_image].all()
            cars += is_car
            others += not is_car
            moving += recorder.scene.speeds(0.0)[owner] > 1
    assert cars >= 6 and others >= 6 and moving >= 6


@pytest.mark.parametrize(('frame', 'camera'), [(0, 2), (1, 2), (2, 2), (0, 3)])
def test_boxes_lie_on_the_image(frames: dict, frame: int, camera: int) -> None:
    """The pixels of an unhidden object are inside the rectangle of its box, in camera 3 too, and fill most of it."""
    objects, calibration, _ = frames[TRAIN[frame]]
    recorder = make_recorder(Request(Path(), 2, SMALL, 6, 1), frame)
    image = recorder.camera_image(recorder.rig.cameras[camera], 0.0, recorder.shadow(0.0))
    solids = recorder.scene.solids(0.0)
    owners = np.where(image.ids >= 0, solids.owner[np.maximum(image.ids, 0)], -1)
    sizes = np.array([a.body.size_m for a in recorder.scene.agents])
    checked = 0
    for i in np.flatnonzero((_difficulty(objects) == 0) & (objects.truncated == 0)):
        pixels = _to_pixels(_corners(objects, i), calibration, camera)
        low, high = pixels.min(0), pixels.max(0)
        if low[0] < 0 or high[0] > 1241:
            continue
        agent = int(np.abs(sizes - objects.sizes_m[i][[2, 1, 0]]).sum(1).argmin())
        v, u = np.nonzero(owners == agent)
        seen_low, seen_high = np.array([u.min(), v.min()]), np.array([u.max(), v.max()])
        slack = 1.5 + 0.03 * (high - low)
        assert (seen_low >= low - slack).all() and (seen_high <= high + slack).all()
        least = 0.8 if objects.names[i] in ('Car', 'Van', 'Truck') else 0.5
        assert (seen_high - seen_low + 1 >= least * (high - low)).all()
        checked += 1
    assert checked >= 1


def test_difficulties_and_classes_are_mixed(frames: dict) -> None:
    names = np.concatenate([objects.names for objects, _, _ in frames.values()])
    levels = np.concatenate([_difficulty(objects) for objects, _, _ in frames.values()])
    assert {'Car', 'Pedestrian', 'Cyclist'} <= set(names)
    assert set(names) <= {'Car', 'Van', 'Truck', 'Pedestrian', 'Cyclist', 'Tram', 'Misc'}
    for level in (0, 1, 2):
        assert ((names == 'Car') & (levels == level)).sum() >= 3
        assert (levels == level).sum() >= 6
    assert ((names == 'Car') & (levels < 2)).sum() >= 20
    occluded = np.concatenate([objects.occluded for objects, _, _ in frames.values()])
    assert set(occluded) >= {0, 1, 2} and set(occluded) <= {0, 1, 2, 3}


def test_dont_care_has_its_fill_values(root: Path) -> None:
    found = 0
    for name in TRAIN + VAL:
        objects = read_objects(root / 'training' / 'label_2' / f'{name}.txt')
        ignored = objects.names == 'DontCare'
        assert (np.diff(ignored.astype(int)) >= 0).all()
        for i in np.flatnonzero(ignored):
            row = [objects.truncated[i], objects.occluded[i], objects.alpha_rad[i]]
            row += [*objects.sizes_m[i], *objects.bottom_centers_m[i], objects.rotation_y_rad[i]]
            assert row == DONT_CARE
            assert (objects.boxes_2d[i, 2:] > objects.boxes_2d[i, :2]).all()
            found += 1
        kept = objects.select(~ignored)
        assert (kept.bottom_centers_m[:, 2] <= 80).all() and (kept.boxes_2d[:, 3] - kept.boxes_2d[:, 1] >= 9.99).all()
    assert found > 3


def test_labels_worked_out_by_hand() -> None:
    """Camera frame = world turned: x right is -y, y down is -z, z ahead is x; focal length 100, 101 x 101 pixels."""
    cam_from_world = np.array([[0, -1.0, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    project = np.array([[100.0, 0, 50, 0], [0, 100, 50, 0], [0, 0, 1, 0]])
    boxes = np.array(
        [
            [11.0, 0, 0, 2, 2, 2, 0],  # ahead, nose away: front face 10 m away, 20 pixels wide
            [11.0, -5, 0, 2, 2, 2, np.pi / 2],  # 5 m to the right, nose to the left: from u = 83.3 to 110
            [90.0, 0, 0, 2, 2, 20, 0],  # too far
            [11.0, 0, 0, 2, 2, 0.5, 0],  # 5 pixels high
            [11.0, 0, 0, 2, 2, 2, 0],  # 4 percent visible
            [11.0, 0, 0, 2, 2, 2, 0],  # neither a pixel nor a point
            [11.0, 0, 0, 2, 2, 2, 0],  # no type
            [11.0, 0, 0, 2, 2, 2, 0],  # two points
            [-9.0, 0, 0, 2, 2, 2, 0],  # behind the camera, covers nothing
        ]
    )
    pixels = np.array([[400, 200], [100, 100], [9, 9], [9, 9], [400, 16], [400, 0], [9, 9], [9, 9], [0, 0]], float)
    points = np.array([50, 50, 50, 50, 50, 0, 50, 2, 50])
    names = ['Car', 'Van', 'Car', 'Car', 'Car', 'Car', '', 'Truck', 'Car']
    objects = make_labels(names, Observation(boxes, pixels, points), cam_from_world, project, (101, 101))
    assert list(objects.names) == ['Car', 'Van'] + ['DontCare'] * 4
    # Two decimals of the angle move the corners by a hundredth of a pixel.
    np.testing.assert_allclose(objects.boxes_2d[0], [40, 40, 60, 60], atol=0.01)
    np.testing.assert_allclose(objects.bottom_centers_m[0], [0, 1, 11])
    assert objects.rotation_y_rad[0] == -1.57 and abs(objects.alpha_rad[0] + 1.57) < 1e-9
    assert objects.truncated[0] == 0 and objects.occluded[0] == 1
    np.testing.assert_allclose(objects.boxes_2d[1], [50 + 400 / 12, 40, 100, 60], atol=0.01)
    np.testing.assert_allclose(objects.truncated[1], 10 / (60 - 400 / 12), atol=0.001)
    assert abs(objects.rotation_y_rad[1]) == 3.14 and objects.occluded[1] == 0
    np.testing.assert_allclose(np.cos(objects.alpha_rad[1] - objects.rotation_y_rad[1]), np.cos(np.arctan2(5, 11)))
    np.testing.assert_allclose(
        objects.boxes_2d[2], [50 - 100 / 89, 50 - 1000 / 89, 50 + 100 / 89, 50 + 1000 / 89], atol=0.01
    )
    empty = make_labels(
        [], Observation(np.zeros((0, 7)), np.zeros((0, 2)), np.zeros(0)), cam_from_world, project, (9, 9)
    )
    assert len(empty) == 0


def test_a_box_next_to_the_camera_is_cut_at_the_image_plane() -> None:
    corners = np.array([[x, y, z] for y in (1.0, -1) for x, z in ((1, -2), (1, 2), (3, 2), (3, -2))], float)[None]
    project = np.array([[100.0, 0, 50, 0], [0, 100, 50, 0], [0, 0, 1, 0]])
    rect = project_boxes(corners, project)[0]
    # The least column is that of the near edge x = 1, z = 2; the rest extends to z = 0.1.
    np.testing.assert_allclose(rect, [100, 50 - 1000, 50 + 3000, 50 + 1000])
    assert np.isnan(project_boxes(corners - [0, 0, 4], project)).all()


def test_occlusion_and_types() -> None:
    assert occlusion_levels(np.array([1.0, 0.85, 0.84, 0.5, 0.49, 0.15, 0.14, 0.0])).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    rng, classes = np.random.default_rng(0), KITTI_POPULATION.classes
    types = {name: kitti_type(make_body(rng, name, classes=classes)) for name in classes}
    assert types == {
        'car': 'Car', 'van': 'Van', 'truck': 'Truck', 'pedestrian': 'Pedestrian', 'tram': 'Tram', 'bus': 'Misc',
        'trailer': 'Misc', 'construction_vehicle': 'Misc', 'bicycle': '', 'motorcycle': '', 'traffic_cone': '',
        'barrier': '',
    }  # fmt: skip
    riders = {name: kitti_type(make_body(rng, name, rider=True, classes=classes)) for name in ('bicycle', 'motorcycle')}
    assert riders == {'bicycle': 'Cyclist', 'motorcycle': 'Misc'}
    # Means of KITTI's labels: length, width, height.
    for name, mean in {'car': (3.88, 1.63, 1.53), 'van': (5.06, 1.90, 2.21), 'tram': (16.1, 2.53, 3.53),
                       'pedestrian': (0.84, 0.66, 1.76)}.items():  # fmt: skip
        sizes = np.array([make_body(rng, name, classes=classes).size_m for _ in range(60)])
        np.testing.assert_allclose(sizes.mean(0), mean, rtol=0.09, err_msg=name)


def test_rig_is_like_the_real_one() -> None:
    beams = np.rad2deg(HDL64E.elevations_rad)
    assert len(beams) == 64 and (np.diff(beams) > 0).all() and beams[[0, -1]].tolist() == pytest.approx([-24.8, 2.0])
    assert KITTI_RIG.lidar.place_m[2] == 1.73 and HDL64E.period_s == 0.1
    for calibration in (calibrate(KITTI_RIG), calibrate(draw_kitti_rig(np.random.default_rng(0), 500))):
        left, right = calibration.projections[2], calibration.projections[3]
        np.testing.assert_allclose(left[:, :3], [[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]], atol=1e-9)
        np.testing.assert_allclose((left - right)[0, 3] / 721.5377, 0.54, atol=1e-3)
        np.testing.assert_allclose(calibration.projections[0][:, 3], 0, atol=1e-9)
        tr = calibration.cam0_from_lidar_3x4
        np.testing.assert_allclose(tr[:, :3], [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=0.02)
        np.testing.assert_allclose(tr[:, 3], [-0.004, -0.076, -0.272], atol=0.01)
        np.testing.assert_allclose(calibration.rectification @ calibration.rectification.T, np.eye(3), atol=1e-12)
    # Ahead is the middle of the revolution, and the head rotates clockwise.
    azimuths, times = HDL64E.azimuths_rad(), HDL64E.column_offsets_s()
    ahead = np.abs(np.angle(np.exp(1j * (azimuths - np.pi / 2)))).argmin()
    assert abs(times[ahead] + 0.05) < 1e-4 and azimuths[ahead + 5] < azimuths[ahead]


def test_same_seed_same_bytes_with_more_processes(root: Path, tmp_path: Path) -> None:
    simulate(WRITER, Request(tmp_path / 'b', 2, SMALL, 2, 0), jobs=2)
    first, second = _files(root), _files(tmp_path / 'b')
    frames = [name for name in second if name.startswith(('training', 'testing'))]
    assert len(frames) == 2 * 4 + 2 * 3
    assert [name for name in frames if first[name] != second[name]] == []


def test_resumes_where_it_stopped(root: Path, tmp_path: Path) -> None:
    out = tmp_path / 'half'
    shutil.copytree(root, out)
    (out / '.scenes' / 'scene-0003.json').unlink()
    (out / 'training' / 'image_2' / '000002.png').unlink()
    (out / 'training' / 'velodyne' / '.000002-half.bin').write_bytes(b'half')
    (out / 'testing' / 'calib' / '000001.txt').unlink()
    (out / 'ImageSets' / 'val.txt').unlink()
    assert simulate(WRITER, Request(out, 2, SMALL, 6, 1), jobs=1)['made'] == 1
    assert _files(out) == _files(root)
    for writer, other in ((WRITER, replace(SMALL, columns=500)), (nuscenes.WRITER, NUSCENES_PROFILES['tiny'])):
        with pytest.raises(InputError, match='other settings'):
            simulate(writer, Request(out, 2, other, 6, 1), jobs=1)


def test_the_tool_knows_the_profiles_of_the_format(tmp_path: Path) -> None:
    main = runpy.run_path(str(TOOL))['main']
    out = ['--out', str(tmp_path / 'x')]
    with pytest.raises(InputError, match="unknown profile 'distill'"):
        main(['kitti', *out, '--profile', 'distill'])
    with pytest.raises(InputError, match="unknown profile 'lidar'"):
        main(['nuscenes', *out, '--profile', 'lidar'])
    # KITTI has single frames.
    for option in (['--keyframes', '3'], ['--no-sweeps']):
        with pytest.raises(SystemExit):
            main(['kitti', *out, *option])
    assert not (tmp_path / 'x').exists()
    assert PROFILES['default'].columns == HDL64E.columns
    assert PROFILES['default'].images == ('image_2', 'image_3')
