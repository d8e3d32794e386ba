"""KITTI infos and database: against mmdet3d's own reader and geometry, by hand, on broken trees and on real frames."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from kitti_tree import IMAGE_HW, POINTS_IN_BOX, KittiTree, png_bytes

from perception3d.checks import InputError
from perception3d.datasets import frame_building
from perception3d.datasets.point_clouds import in_image
from perception3d.files import read_pickle
from perception3d.formats.kitti.files import boxes_lidar_from_camera, objects_from_table, read_calibration, read_objects
from perception3d.formats.kitti.info import InfoSettings, create_infos, difficulties
from tools import create_data

SPLITS = {
    'train': ['000000', '000002', '000004'],
    'val': ['000001', '000005'],
    'trainval': ['000000', '000001', '000002', '000004', '000005'],
    'test': ['000000', '000001'],
}


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> KittiTree:
    """A tree with infos. Read only."""
    tree = KittiTree(tmp_path_factory.mktemp('kitti'))
    tree.write(SPLITS)
    create_infos(tree.root, progress=False)
    return tree


@pytest.fixture
def copy(tree: KittiTree, tmp_path: Path) -> Path:
    """A copy that the test may break."""
    return Path(shutil.copytree(tree.root, tmp_path / 'tree'))


@pytest.fixture(scope='module')
def real_frames(samples_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of links to the real frames, which are read only."""
    root = tmp_path_factory.mktemp('real')
    for part in samples_of('kitti').iterdir():
        (root / part.name).symlink_to(part)
    return root


def infos_of(root: Path, split: str = 'train') -> list[dict]:
    return read_pickle(root / f'perception3d_infos_{split}.pkl')['data_list']


def contents(root: Path) -> dict[str, bytes]:
    made = [*root.glob('perception3d_*.pkl'), *root.glob('perception3d_gt_database/*')]
    return {str(path.relative_to(root)): path.read_bytes() for path in made}


def test_mmdet3d_reads_the_infos_and_sees_the_boxes_that_were_written(tree: KittiTree):
    from mmdet3d.datasets import KittiDataset

    data_prefix = dict(pts='', img='')
    stock = KittiDataset(str(tree.root), 'perception3d_infos_trainval.pkl', data_prefix=data_prefix)
    assert len(stock) == 5
    seen = 0
    for index, frame_id in enumerate(SPLITS['trainval']):
        names, boxes = tree.boxes[frame_id]
        sample = stock.get_data_info(index)
        assert Path(sample['lidar_path']).is_file()
        found = sample['ann_info']['gt_bboxes_3d'].tensor.numpy()
        labels = [stock.metainfo['classes'][label] for label in sample['ann_info']['gt_labels_3d']]
        assert labels == names
        # Label files have two decimals.
        np.testing.assert_allclose(found[:, :6], boxes[:, :6], atol=0.02)
        np.testing.assert_allclose(np.sin(found[:, 6] - boxes[:, 6]), 0, atol=0.01)
        np.testing.assert_allclose(np.cos(found[:, 6] - boxes[:, 6]), 1, atol=0.01)
        seen += len(names)
    assert seen == 15


def test_our_conversion_of_boxes_is_mmdet3ds(tree: KittiTree):
    from mmdet3d.structures import Box3DMode, CameraInstance3DBoxes

    home = tree.root / 'training'
    lidar_from_cam = np.linalg.inv(read_calibration(home / 'calib' / '000001.txt').cam_from_lidar())
    objects = read_objects(home / 'label_2' / '000001.txt')
    objects = objects.select(objects.names != 'DontCare')
    rows = np.column_stack([objects.bottom_centers_m, objects.sizes_m[:, [2, 0, 1]], objects.rotation_y_rad])
    theirs = CameraInstance3DBoxes(rows).convert_to(Box3DMode.LIDAR, lidar_from_cam).tensor.numpy()
    ours = boxes_lidar_from_camera(objects, lidar_from_cam)
    np.testing.assert_allclose(theirs[:, :6], ours[:, :6], atol=1e-5)
    np.testing.assert_allclose(np.sin(theirs[:, 6] - ours[:, 6]), 0, atol=1e-5)
    np.testing.assert_allclose(np.cos(theirs[:, 6] - ours[:, 6]), 1, atol=1e-5)


def test_an_info_has_the_matrices_the_size_and_the_id(tree: KittiTree):
    info = infos_of(tree.root, 'val')[0]
    assert (info['frame_id'], info['sample_idx'], info['labelled']) == ('000001', 1, True)
    camera = info['images']['CAM2']
    assert (camera['height'], camera['width']) == IMAGE_HW
    assert (tree.root / camera['img_path']).is_file()
    calibration = read_calibration(tree.root / 'training' / 'calib' / '000001.txt')
    np.testing.assert_allclose(camera['lidar2cam'], calibration.cam_from_lidar())
    np.testing.assert_allclose(np.array(camera['cam2img'])[:3], calibration.projections[2])
    np.testing.assert_allclose(camera['lidar2img'], np.array(camera['cam2img']) @ camera['lidar2cam'])
    assert b'numpy' not in (tree.root / 'perception3d_infos_val.pkl').read_bytes(), 'an info file is plain data'


def test_centres_in_the_image_are_mmdet3ds(tree: KittiTree):
    from mmdet3d.structures.bbox_3d.utils import points_cam2img

    info = infos_of(tree.root, 'val')[0]
    for box in info['instances'][:-1]:
        middle = np.array(box['bbox_3d'][:3]) - [0, box['bbox_3d'][4] / 2, 0]
        projected = points_cam2img(middle[None], np.array(info['images']['CAM2']['cam2img']), with_depth=True)[0]
        np.testing.assert_allclose([*box['center_2d'], box['depth']], projected, rtol=1e-5)


def test_points_are_counted_in_every_box_but_dont_care(tree: KittiTree):
    for info in infos_of(tree.root, 'trainval'):
        for box in info['instances']:
            dont_care = box['name'] == 'DontCare'
            assert box['num_lidar_pts'] == (-1 if dont_care else POINTS_IN_BOX)
            assert (box['bbox_label_3d'] == -1) == dont_care
            assert not dont_care or box['difficulty'] == -1


def test_points_that_the_camera_does_not_see_do_not_count(copy: Path):
    image = copy / 'training' / 'image_2' / '000000.png'
    before = infos_of(copy)[0]
    # A narrow image: objects on the right are outside, those on the left stay.
    image.write_bytes(png_bytes(375, 500))
    create_infos(copy, progress=False)
    after = infos_of(copy)[0]
    assert after['images']['CAM2']['width'] == 500
    counts = [(b['num_lidar_pts'], a['num_lidar_pts'], a['bbox']) for b, a in zip(*map(_boxes, (before, after)))]
    assert any(box[0] > 510 for _, _, box in counts)
    for full, cut, box in counts:
        assert cut == 0 if box[0] > 510 else (cut == full if box[2] < 490 else 0 <= cut <= full)


def _boxes(info: dict) -> list[dict]:
    return [box for box in info['instances'] if box['name'] != 'DontCare']


def test_difficulty_follows_the_benchmark():
    def level(height: float, occluded: int, truncated: float, name: str = 'Car') -> int:
        row = [truncated, occluded, 0, 100, 100, 200, 100 + height, 1.5, 1.6, 4, 0, 1, 20, 0]
        return int(difficulties(objects_from_table([name], np.array([row]), scored=False))[0])

    assert level(40, 0, 0.15) == 0
    assert level(39.9, 0, 0.0) == 1
    assert level(60, 1, 0.0) == 1
    assert level(60, 0, 0.16) == 1
    assert level(25, 1, 0.30) == 1
    assert level(25, 2, 0.30) == 2
    assert level(60, 0, 0.50) == 2
    assert level(60, 0, 0.51) == -1
    assert level(60, 3, 0.0) == -1
    assert level(24.9, 0, 0.0) == -1
    assert level(60, 0, 0.0, 'DontCare') == -1


def test_the_mask_of_an_image_is_plain_projection(tree: KittiTree):
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (5000, 4)).astype(np.float32)
    matrix = np.array(infos_of(tree.root)[0]['images']['CAM2']['lidar2img'])
    expected = slow_view(points, matrix, (375, 1242))
    assert expected.any()
    np.testing.assert_array_equal(in_image(points, matrix, (375, 1242)), expected)


def test_the_database_holds_the_objects_of_train(tree: KittiTree):
    table = read_pickle(tree.root / 'perception3d_dbinfos_train.pkl')
    assert {name: len(entries) for name, entries in table.items()} == {
        'Car': 4,
        'Cyclist': 2,
        'Pedestrian': 2,
        'Van': 2,
    }
    groups = set()
    for name, entries in table.items():
        for entry in entries:
            assert entry['name'] == name
            assert entry['image_idx'] in SPLITS['train']
            own = np.fromfile(tree.root / entry['path'], np.float32).reshape(-1, 4)
            assert len(own) == entry['num_points_in_gt'] == POINTS_IN_BOX
            cloud = np.fromfile(tree.root / 'training' / 'velodyne' / f'{entry["image_idx"]}.bin', np.float32)
            cloud = cloud.reshape(-1, 4)
            place = own + [*entry['box3d_lidar'][:3], 0]
            gap = np.abs(place[:, None] - cloud[None]).max(2).min(1)
            assert gap.max() < 1e-5, 'every point is one of the scan'
            info = infos_of(tree.root)[SPLITS['train'].index(entry['image_idx'])]
            assert info['instances'][entry['gt_idx']]['difficulty'] == entry['difficulty']
            groups.add(entry['group_id'])
    assert groups == set(range(10))
    assert len(list((tree.root / 'perception3d_gt_database').iterdir())) == 10


def test_without_train_the_database_is_that_of_trainval(copy: Path, capsys: pytest.CaptureFixture):
    for split in ('train', 'val'):
        (copy / 'ImageSets' / f'{split}.txt').unlink()
    assert create_data.main(['kitti', '--root', str(copy), '--jobs', '1']) == 0
    assert 'database of trainval: 15 objects' in capsys.readouterr().out
    table = read_pickle(copy / 'perception3d_dbinfos_train.pkl')
    counts = {name: len(entries) for name, entries in table.items()}
    assert counts == {'Car': 6, 'Cyclist': 3, 'Pedestrian': 3, 'Van': 3}
    frames = {entry['image_idx'] for entries in table.values() for entry in entries}
    assert frames == {'000000', '000001', '000004'}, 'frames 2 and 5 have no objects'
    assert all((copy / entry['path']).is_file() for entries in table.values() for entry in entries)


def test_a_tree_without_labels_for_training_has_no_database(copy: Path, capsys: pytest.CaptureFixture):
    for split in ('train', 'val', 'trainval'):
        (copy / 'ImageSets' / f'{split}.txt').unlink()
    assert create_data.main(['kitti', '--root', str(copy), '--jobs', '1']) == 0
    assert 'no objects, since ImageSets has neither train.txt nor trainval.txt' in capsys.readouterr().out
    assert read_pickle(copy / 'perception3d_dbinfos_train.pkl') == {}


def test_mmdet3ds_sampler_reads_the_database(tree: KittiTree):
    from mmdet3d.datasets.transforms import DataBaseSampler

    sampler = DataBaseSampler(
        data_root=str(tree.root),
        info_path=str(tree.root / 'perception3d_dbinfos_train.pkl'),
        rate=1.0,
        prepare=dict(filter_by_difficulty=[-1], filter_by_min_points=dict(Car=5)),
        sample_groups=dict(Car=2),
        classes=['Car'],
    )
    kept = [entry['difficulty'] for entry in sampler.db_infos['Car']]
    table = read_pickle(tree.root / 'perception3d_dbinfos_train.pkl')
    assert kept == [entry['difficulty'] for entry in table['Car'] if entry['difficulty'] != -1]


def test_several_processes_make_the_same_files(tree: KittiTree, copy: Path):
    for path in [*copy.glob('perception3d_*.pkl'), *copy.glob('perception3d_gt_database/*')]:
        path.unlink()
    create_infos(copy, jobs=2, progress=False)
    assert contents(copy) == contents(tree.root)
    assert not list(copy.glob('.perception3d*'))


def test_test_frames_have_no_labels_and_absent_splits_are_named(copy: Path, capsys: pytest.CaptureFixture):
    (copy / 'ImageSets' / 'val.txt').unlink()
    assert create_data.main(['kitti', '--root', str(copy), '--jobs', '1']) == 0
    printed = capsys.readouterr().out
    assert 'has no such file: val' in printed
    assert f'train: 3 frames -> {copy / "perception3d_infos_train.pkl"}' in printed
    assert 'database of train: 10 objects' in printed
    assert [line.split()[1:] for line in printed.splitlines() if line.startswith('Car')] == [['4', '6', '0', '4']]
    info = infos_of(copy, 'test')[0]
    assert not info['labelled']
    assert info['instances'] == []
    assert info['lidar_points']['lidar_path'] == 'testing/velodyne/000000.bin'


def test_lidar_alone_needs_no_images(copy: Path, capsys: pytest.CaptureFixture):
    for folder in ('training', 'testing'):
        shutil.rmtree(copy / folder / 'image_2')
    with pytest.raises(InputError, match=r'7 of \d+ files .* 5 in training/image_2 \(000000.png, .*2 in testing'):
        create_infos(copy, progress=False)
    create_data.main(['kitti', '--root', str(copy), '--sensors', 'lidar', '--image-size', '1224', '370'])
    assert 'every one counts as 1224 x 370 pixels' in capsys.readouterr().out
    camera = infos_of(copy)[0]['images']['CAM2']
    assert (camera['height'], camera['width']) == (370, 1224)
    with pytest.raises(InputError, match='sensors must be lidar'):
        InfoSettings(sensors=('camera',))


def points_file(root: Path) -> Path:
    return root / 'training' / 'velodyne' / '000001.bin'


def break_size(root: Path) -> None:
    points_file(root).write_bytes(points_file(root).read_bytes()[:-4])


def break_nan(root: Path) -> None:
    points = np.fromfile(points_file(root), np.float32)
    points[[41, 803]] = np.nan, np.inf
    points.tofile(points_file(root))


def break_infinity(root: Path) -> None:
    points = np.fromfile(points_file(root), np.float32)
    points[[41, 42]] = -np.inf, np.inf
    points.tofile(points_file(root))


def break_cloud(root: Path) -> None:
    points_file(root).write_bytes(b'')


def break_label(root: Path) -> None:
    path = root / 'training' / 'label_2' / '000001.txt'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([lines[0], ' '.join(lines[1].split()[:14]), *lines[2:]]))


def break_extent(root: Path) -> None:
    path = root / 'training' / 'label_2' / '000001.txt'
    path.write_text('\nVan 0 0 0 1 1 9 9 1.5 1 3.9 1 1 20 0\n \nCar 0 0 0 1 1 9 9 1.5 0 3.9 1 1 20 0\n')


def break_class_name(root: Path) -> None:
    path = root / 'training' / 'label_2' / '000001.txt'
    path.write_text('\n\n../Car 0 0 0 1 1 9 9 1.5 1 3.9 1 1 20 0\n')


def break_calibration(root: Path) -> None:
    path = root / 'training' / 'calib' / '000001.txt'
    path.write_text(''.join(line for line in path.read_text().splitlines(True) if not line.startswith('Tr_velo')))


def break_image(root: Path) -> None:
    (root / 'training' / 'image_2' / '000001.png').write_bytes(b'\xff\xd8 a JPEG by name only, long enough to be read')


def break_split(root: Path) -> None:
    with (root / 'ImageSets' / 'train.txt').open('a') as file:
        file.write('\n000002\n')


def break_id(root: Path) -> None:
    (root / 'ImageSets' / 'val.txt').write_text('000001\n5\n')


def break_frame(root: Path) -> None:
    (root / 'ImageSets' / 'val.txt').write_text('000001\n000009\n')


def break_empty_split(root: Path) -> None:
    (root / 'ImageSets' / 'val.txt').write_text('\n')


def break_splits(root: Path) -> None:
    for path in (root / 'ImageSets').iterdir():
        path.unlink()


def break_image_sets(root: Path) -> None:
    shutil.rmtree(root / 'ImageSets')


def break_root(root: Path) -> None:
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (break_size, r'velodyne/000001.bin is truncated: \d+ bytes is not a multiple of 16'),
        (break_nan, r'velodyne/000001.bin holds NaN or infinity in 2 of 650 points \(first: point 10\)'),
        (break_infinity, r'velodyne/000001.bin holds NaN or infinity in 1 of 650 points'),
        (break_cloud, r'velodyne/000001.bin holds no points'),
        (break_label, r'label_2/000001.txt, line 2: 14 columns, a label line has 15'),
        (break_extent, r'label_2/000001.txt, line 4: a Car without height, width or length'),
        (break_class_name, r"label_2/000001.txt, line 3: '../Car' is not a class name"),
        (break_calibration, r'calib/000001.txt has no Tr_velo_to_cam'),
        (break_image, r'image_2/000001.png is not a PNG image'),
        (break_split, r'train.txt, line 5: frame 000002 is already in line 2'),
        (break_id, r"val.txt, line 2: '5' is not a frame id such as 000123"),
        (break_frame, r'4 of \d+ files .* are missing in .*: 1 in training/velodyne \(000009.bin\)'),
        (break_empty_split, r'val.txt names no frames'),
        (break_splits, r'ImageSets has none of train.txt, val.txt'),
        (break_image_sets, r'folder .*ImageSets does not exist'),
        (break_root, r'folder .* does not exist: give --root the folder'),
    ],
)
def test_bad_input_gets_one_line_and_leaves_earlier_files(copy: Path, damage: Callable[[Path], None], words: str):
    before = contents(copy)
    damage(copy)
    with pytest.raises(InputError, match=words) as error:
        create_data.main(['kitti', '--root', str(copy), '--jobs', '1'])
    assert '\n' not in str(error.value)
    if copy.is_dir():
        assert contents(copy) == before
        assert not list(copy.glob('.perception3d*'))


def test_an_error_travels_between_processes_and_jobs_are_checked(copy: Path):
    error = pickle.loads(pickle.dumps(InputError('a.bin holds no points')))
    assert isinstance(error, InputError)
    assert str(error) == 'a.bin holds no points'
    with pytest.raises(InputError, match='0 jobs'):
        create_infos(copy, jobs=0, progress=False)


def test_an_interruption_leaves_earlier_files(copy: Path, monkeypatch: pytest.MonkeyPatch):
    before = contents(copy)

    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frame_building, '_results', interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_infos(copy, progress=False)
    assert contents(copy) == before
    assert not list(copy.glob('.perception3d*'))


def slow_rows(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Rows of the points in a box, from its definition."""
    local = points[:, :3].astype(float) - box[:3]
    along = local[:, :2] @ [np.cos(box[6]), np.sin(box[6])]
    across = local[:, :2] @ [-np.sin(box[6]), np.cos(box[6])]
    inside = (abs(along) <= box[3] / 2) & (abs(across) <= box[4] / 2) & (local[:, 2] >= 0) & (local[:, 2] <= box[5])
    return np.flatnonzero(inside)


def slow_view(points: np.ndarray, img_from_lidar: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Mask of the points in an image, from the definition."""
    projected = np.column_stack([points[:, :3].astype(float), np.ones(len(points))]) @ img_from_lidar.T
    u, v = projected[:, 0] / projected[:, 2], projected[:, 1] / projected[:, 2]
    return (projected[:, 2] > 0) & (u >= 0) & (u < image_hw[1]) & (v >= 0) & (v < image_hw[0])


def test_the_real_frames(real_frames: Path):
    summary = create_infos(real_frames, progress=False)
    assert summary['splits']['train']['classes']['Car'] == 2
    assert summary['database'] == {'Car': 2, 'Cyclist': 1, 'Misc': 1, 'Pedestrian': 1, 'Truck': 1}
    counted = []
    for info in infos_of(real_frames):
        home = real_frames / 'training'
        points = np.fromfile(home / 'velodyne' / f'{info["frame_id"]}.bin', np.float32).reshape(-1, 4)
        camera = info['images']['CAM2']
        image_hw = cv2.imread(str(home / 'image_2' / f'{info["frame_id"]}.png')).shape[:2]
        assert (camera['height'], camera['width']) == image_hw
        seen = points[slow_view(points, np.array(camera['lidar2img']), image_hw)]
        objects = read_objects(home / 'label_2' / f'{info["frame_id"]}.txt')
        objects = objects.select(objects.names != 'DontCare')
        boxes = boxes_lidar_from_camera(objects, np.linalg.inv(camera['lidar2cam']))
        assert [box['num_lidar_pts'] for box in _boxes(info)] == [len(slow_rows(seen, box)) for box in boxes]
        counted += [box['num_lidar_pts'] for box in _boxes(info)]
    # What mmdet3d's remove_outside_points and points_in_rbbox count.
    assert counted == [377, 71, 9, 18, 1349, 67]
