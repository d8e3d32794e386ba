"""Pictures of KITTI and of LiDAR-only frames: which way is up, what is in the window, where boxes fall in the image."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import draw_cameras, draw_sample
from kitti_tree import IMAGE_HW, KittiTree
from mmdet3d.datasets.transforms import GlobalRotScaleTrans, RandomFlip3D
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmdet3d.structures.points import LiDARPoints
from mmengine.config import Config
from mmengine.structures import InstanceData

from perception3d.apis import browse
from perception3d.checks import InputError
from perception3d.engine.visualization_hook import DrawPredictionsHook
from perception3d.files import read_image, write_image
from perception3d.formats.kitti.files import boxes_lidar_from_camera, read_calibration, read_objects
from perception3d.formats.kitti.info import create_infos
from perception3d.geometry.augmentation import aug_from_lidar, move_boxes
from perception3d.geometry.boxes import corners
from perception3d.geometry.frustum import to_homogeneous
from perception3d.structures.boxes import Boxes
from perception3d.structures.frame import X_FORWARD, Y_FORWARD, LidarAxes
from perception3d.structures.sample import ground_truth_boxes
from perception3d.structures.views import BevView
from perception3d.visualization.draw import PictureStyle
from perception3d.visualization.palette import class_color
from perception3d.visualization.sample import axes_of, read_cloud, read_frame
from perception3d.visualization.visualizer import MultiViewVisualizer
from perception3d.visualization.windows import extents, fitted_panels, point_size, square_panels

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('Pedestrian', 'Cyclist', 'Car')
SMALL = PictureStyle(width_px=640)
KITTI = LidarAxes((1, 0), only_ahead=True)

# A camera at the LiDAR's place that looks along x: 100 pixels a metre at 1 m, image 200 x 100.
CAM_FROM_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
STORED_FROM_CAM = np.array([[100.0, 0, 100, 0], [0, 100, 50, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
BOXES = np.array([[10.0, 0, -1, 2, 2, 2, 0], [12, 4, -1.5, 3.9, 1.6, 1.5, 0.6], [15, -5, -1, 0.8, 0.6, 1.7, -2.0]])


@pytest.fixture
def metas(tmp_path: Path) -> dict[str, Any]:
    """The metas of a KITTI-like frame with a grey image and five points, of which the camera sees two."""
    write_image(tmp_path / 'image_2' / '000007.png', np.full((100, 200, 3), 90, np.uint8))
    points = [[10, 0, 0, 0], [10, 9.9, 0, 0], [10, 10.1, 0, 0], [10, 0, 6, 0], [-10, 0, 0, 0]]
    np.array(points, np.float32).tofile(tmp_path / '000007.bin')
    return dict(
        frame_id='000007',
        token='000007',
        lidar_path=str(tmp_path / '000007.bin'),
        num_pts_feats=4,
        cam_names=['image_2'],
        img_paths=[str(tmp_path / 'image_2' / '000007.png')],
        stored_hw=[(100, 200)],
        stored_from_cam=STORED_FROM_CAM[None],
        cam_from_lidar=CAM_FROM_LIDAR[None],
        img_from_lidar=STORED_FROM_CAM[None] @ CAM_FROM_LIDAR[None],
        only_ahead=True,
    )


def augmented(*steps: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """BOXES after steps of mmdet3d, and what these wrote down."""
    results = dict(
        points=LiDARPoints(torch.zeros(1, 4), points_dim=4),
        gt_bboxes_3d=LiDARInstance3DBoxes(torch.tensor(BOXES, dtype=torch.float64)),
    )
    for step in steps:
        results = step(results)
    boxes = results.pop('gt_bboxes_3d').tensor.numpy()
    return boxes, {key: value for key, value in results.items() if key != 'points'}


AUGMENTATIONS = [
    (RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=1.0),),
    (GlobalRotScaleTrans([0.4, 0.4], [1.1, 1.1], [0.5, 0.5, 0.1]),),
    (
        RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=1.0, flip_ratio_bev_vertical=1.0),
        GlobalRotScaleTrans([-0.7, -0.7], [0.9, 0.9], [0.2, 0.2, 0.2]),
    ),
    (
        GlobalRotScaleTrans([0.7, 0.7], [1.05, 1.05]),
        RandomFlip3D(sync_2d=False, flip_ratio_bev_horizontal=1.0),
    ),
]


def coloured(picture: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels in the plain colour of a class."""
    return np.nonzero((picture == class_color(name)).all(axis=2))


def sorted_pixels(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The corners of each box in pixels, (N, 8, 2), in an order that mirroring does not change."""
    scaled = to_homogeneous(corners(boxes), matrix)
    pixels = scaled[..., :2] / scaled[..., 2:]
    return np.stack([one[np.lexsort(one.round(3).T)] for one in pixels])


class TestAxes:
    def test_they_are_what_the_data_set_states_and_x_forward_otherwise(self, metas: dict[str, Any]):
        assert axes_of({}) == X_FORWARD and axes_of({'lidar_axes': None}) == X_FORWARD
        for forward in ((1, 0), (0, 1), (-1, 0), (0, -1)):
            assert axes_of({'lidar_axes': LidarAxes(forward).text}) == LidarAxes(forward)
        # A single camera says that only what is ahead is labelled, wherever it looks.
        assert axes_of(metas) == KITTI
        assert axes_of({**metas, 'lidar_axes': Y_FORWARD.text}) == LidarAxes((0, 1), only_ahead=True)

    def test_other_words_are_named(self):
        with pytest.raises(InputError, match="unknown lidar_axes 'x ahead'"):
            axes_of({'lidar_axes': 'x ahead'})


class TestWindows:
    def test_ahead_is_up_and_left_is_left_for_every_axis(self):
        # 10 pixels a metre; (5 m to the left, 20 m ahead) is 50 pixels from the left, 100 from the top.
        for forward, place in (((1, 0), (20, 5)), ((0, 1), (-5, 20)), ((-1, 0), (-20, -5)), ((0, -1), (5, -20))):
            window = BevView((-10, 20), (-4, 30), 300, forward)
            assert (window.px_per_m, window.height_px) == (10, 340)
            np.testing.assert_allclose(window.to_pixels(np.array(place)), [49.5, 99.5])
            assert window.contains(np.array([place, np.multiply(place, 3)])).tolist() == [True, False]

    def test_nothing_behind_a_camera_that_looks_ahead(self):
        # A fan from 5 to 60 m, 45 degrees to both sides, and points behind that only the LiDAR sees.
        depth = np.linspace(5, 60, 200)
        fan = np.concatenate([np.stack([depth, side * depth * 0.5], -1) for side in (-1, 1)])
        points = np.concatenate([fan, fan * [-1, 1]])
        none = np.zeros((0, 2))
        assert extents(KITTI, points, none, 51.2) == ((-30, 30), (-4, 60))
        assert extents(X_FORWARD, points, none, 51.2) == ((-30, 30), (-60, 60))
        # A box behind the car, 2 m long, and one whose place cannot be meant.
        behind = corners(np.array([[-20.0, 0, 0, 2, 2, 2, 0], [1e5, 0, 0, 2, 2, 2, 0]]))[..., :2].reshape(-1, 2)
        assert extents(KITTI, points, behind, 51.2) == ((-30, 30), (-25, 60))
        assert extents(KITTI, None, none, 51.2) == ((-55, 55), (-4, 55))

    def test_two_windows_fill_the_row_and_the_near_one_is_larger(self):
        points = np.stack([np.linspace(5, 59, 500), np.linspace(-14, 14, 500)], -1)
        whole, near = fitted_panels(KITTI, points, np.zeros((0, 2)), 1684, 842, 4, 51.2)
        assert whole.view.width_px + 4 + near.view.width_px == 1684
        assert whole.view.height_px == near.view.height_px == 842
        assert (whole.view.ahead_m, near.view.ahead_m) == ((-4, 60), (-4, 30))
        assert near.view.px_per_m == pytest.approx(842 / 34) and whole.view.px_per_m == pytest.approx(842 / 64)
        assert '60 m ahead' in whole.caption and '30 m ahead' in near.caption

    def test_one_window_where_a_second_adds_nothing(self):
        points = np.stack([np.linspace(2, 14, 500), np.linspace(-9, 9, 500)], -1)
        (only,) = fitted_panels(KITTI, points, np.zeros((0, 2)), 1684, 842, 4, 51.2)
        # All of the row, at the scale that 4 m behind to 15 m ahead have in its height.
        assert (only.view.width_px, only.view.height_px) == (1684, 842)
        assert only.view.ahead_m == (-4, 15) and only.view.px_per_m == pytest.approx(842 / 19)

    def test_few_points_are_large(self):
        window = BevView((-10, 10), (0, 20), 600)
        points = np.random.default_rng(0).uniform(0, 10, (20_000, 2))
        # An eighth of 360,000 pixels is 45,000: 3 x 3 for 5,000 points, 2 x 2 for 11,250.
        assert [point_size(window, points[:n]) for n in (4_900, 11_000, 20_000)] == [3, 2, 1]
        assert point_size(BevView((-50, 50), (0, 100), 600), points[:100]) == 1 == point_size(window, None)

    def test_the_nuscenes_frame_has_its_squares(self):
        wide, near = square_panels((51.2, 20.0), 842)
        assert (wide.view.right_m, near.view.ahead_m) == ((-51.2, 51.2), (-20, 20))
        assert (wide.view.with_texts, near.view.with_texts) == (False, True)


class TestGround:
    def test_a_box_ahead_is_above_the_ego_vehicle(self):
        for axes, place in ((KITTI, (12.0, 5.0)), (LidarAxes((0, -1), only_ahead=True), (5.0, -12.0))):
            # The heading does not matter here: the box is as wide as long.
            boxes = Boxes([[*place, -1, 2, 2, 1.5, 0.0]], [2])
            picture = draw_sample({}, {}, CLASSES, predictions=boxes, style=SMALL, axes=axes)
            # Wide enough for no near view: 4 m behind to 15 m ahead in 279 pixels.
            scale, bar, legend = 279 / 19, round(34 / 3), 79
            picture = picture[bar:, :-legend]
            rows, columns = coloured(picture, 'Car')
            # The white outline of the car, and not the words at the upper border.
            white = np.nonzero((picture > 200).all(axis=2) & (np.arange(279) > 30)[:, None])
            assert rows.max() < white[0].min() and columns.max() < white[1].min()
            # From the sensor, 15 m below the upper border: 12 m up, 5 m to the left of the middle of the car.
            middle = (white[1].min() + white[1].max()) / 2
            assert abs((rows.min() + rows.max()) / 2 - (15 - 12) * scale) < 0.35 * scale + 3
            assert abs((columns.min() + columns.max()) / 2 - (middle - 5 * scale)) < 3

    def test_data_without_velocities_explain_no_arrows(self):
        with_velocity = Boxes([[12, 5, -1, 2, 2, 1.5, 0.0, 0, 0]], [2])
        without = Boxes(with_velocity.boxes[:, :7], [2])
        pictures = [draw_sample({}, {}, CLASSES, boxes, style=SMALL, axes=KITTI) for boxes in (with_velocity, without)]
        different = np.nonzero((pictures[0] != pictures[1]).any(axis=2))
        assert len(different[0]) and different[1].min() >= 640 - 79

    def test_scores_stand_in_both_views(self):
        boxes = Boxes([[55.0, 3, -1, 4, 2, 1.5, 0.0]], [2])
        scored = Boxes(boxes.boxes, [2], [0.5])
        plain, labelled = (
            draw_sample({}, {}, CLASSES, predictions=each, style=SMALL, axes=KITTI) for each in (boxes, scored)
        )
        rows, columns = np.nonzero((plain != labelled).any(axis=2))
        # The box is in the whole view alone, right of which its score stands.
        assert len(rows) and columns.max() < 280


class TestImage:
    def test_corners_fall_on_the_expected_pixels(self, metas: dict[str, Any]):
        views, notes = read_frame(metas)
        assert list(views.images) == ['image_2'] and not notes
        near, far = 100 / 9, 100 / 11
        expected = [[100 + u * r, 50 + v * r] for r in (near, far) for u in (-1, 1) for v in (-1, 1)]
        pixels = sorted_pixels(BOXES[:1], views.img_from_lidar['image_2'])[0]
        np.testing.assert_allclose(sorted(pixels.tolist()), sorted(expected), atol=1e-9)
        # One camera may be 180 pixels high in 640: the image is 360 x 180, centred, 1.8 times its size.
        style = PictureStyle(width_px=640)
        empty = draw_cameras(views.images, views.img_from_lidar, CLASSES, style=style)
        drawn = draw_cameras(views.images, views.img_from_lidar, CLASSES, Boxes(BOXES[:1], [2]), style=style)
        rows, columns = np.nonzero(np.abs(drawn.astype(int) - empty).max(axis=2) > 60)
        borders = [140 + 1.8 * (100 - near), 140 + 1.8 * (100 + near), 1.8 * (50 - near), 1.8 * (50 + near)]
        np.testing.assert_allclose([columns.min(), columns.max(), rows.min(), rows.max()], borders, atol=1.5)

    @pytest.mark.parametrize('steps', AUGMENTATIONS)
    def test_boxes_of_an_augmented_sample_fall_on_the_same_pixels(self, metas: dict[str, Any], steps: tuple):
        np.random.seed(0)
        boxes, flow = augmented(*steps)
        plain = read_frame(metas)[0].img_from_lidar['image_2']
        moved = read_frame({**metas, **flow})[0].img_from_lidar['image_2']
        assert np.abs(boxes[:, :3] - BOXES[:, :3]).max() > 1
        np.testing.assert_allclose(sorted_pixels(boxes, moved), sorted_pixels(BOXES, plain), atol=1e-4)

    @pytest.mark.parametrize('steps', AUGMENTATIONS)
    def test_boxes_and_clouds_move_as_mmdet3d_moves_them(self, metas: dict[str, Any], steps: tuple):
        np.random.seed(0)
        boxes, flow = augmented(*steps)
        matrix = aug_from_lidar(flow)
        for kind in (np.asarray, torch.tensor):
            moved, back = move_boxes(kind(BOXES), matrix), move_boxes(kind(boxes), np.linalg.inv(matrix))
            np.testing.assert_allclose(corners(np.asarray(moved)), corners(boxes), atol=1e-5)
            np.testing.assert_allclose(corners(np.asarray(back)), corners(BOXES), atol=1e-5)
        moving = np.column_stack([BOXES, [[3.0, 0], [0, 2], [np.nan, 1]]])
        ahead = move_boxes(moving, matrix)[0]
        np.testing.assert_allclose(ahead[7:], matrix[:2, 0] * 3, atol=1e-12)
        np.testing.assert_allclose(read_cloud({**metas, **flow})[0][0], (matrix @ [10, 0, 0, 1])[:3], atol=1e-5)

    def test_annotations_for_evaluation_follow_the_cloud(self):
        boxes, flow = augmented(*AUGMENTATIONS[1])
        truth = dict(gt_bboxes_3d=LiDARInstance3DBoxes(torch.tensor(BOXES)), gt_labels_3d=np.array([2, 2, 0]))
        sample = Det3DDataSample(metainfo=flow, eval_ann_info=truth)
        np.testing.assert_allclose(ground_truth_boxes(sample).boxes, boxes, atol=1e-5)
        plain = Det3DDataSample(eval_ann_info=truth)
        np.testing.assert_allclose(ground_truth_boxes(plain).boxes, BOXES, atol=1e-6)

    def test_only_the_points_that_the_camera_sees(self, metas: dict[str, Any]):
        # At 10 m the image is 20 m wide and 10 m high.
        np.testing.assert_allclose(read_cloud(metas)[0], [[10, 0, 0], [10, 9.9, 0]])
        alone = {key: metas[key] for key in ('lidar_path', 'num_pts_feats')}
        assert len(read_cloud(alone)[0]) == 5

    def test_clouds_in_numpy_files(self, tmp_path: Path):
        np.save(tmp_path / 'a.npy', np.arange(8.0).reshape(2, 4))
        assert read_cloud({'lidar_path': str(tmp_path / 'a.npy')})[0].tolist() == [[0, 1, 2], [4, 5, 6]]
        (tmp_path / 'b.npy').write_bytes(b'no array')
        with pytest.raises(InputError, match=r'b\.npy is not a readable \.npy file'):
            read_cloud({'lidar_path': str(tmp_path / 'b.npy')})


class TestVisualizer:
    def draw(self, metas: dict[str, Any], name: str) -> np.ndarray:
        boxes = LiDARInstance3DBoxes(torch.tensor(BOXES, dtype=torch.float32))
        instances = InstanceData(bboxes_3d=boxes, labels_3d=torch.tensor([2, 2, 0]), scores_3d=torch.ones(3) * 0.5)
        visualizer = MultiViewVisualizer(f'lidar {name}', style=dict(width_px=640))
        visualizer.dataset_meta = dict(classes=CLASSES)
        return visualizer.draw(None, Det3DDataSample(metainfo=metas, pred_instances_3d=instances))

    def test_equals_a_drawing_from_the_parts(self, metas: dict[str, Any]):
        views, _ = read_frame(metas)
        expected = draw_sample(
            views.images,
            {'image_2': STORED_FROM_CAM @ CAM_FROM_LIDAR},
            CLASSES,
            predictions=Boxes(BOXES.astype(np.float32), [2, 2, 0], [0.5] * 3),
            points=read_cloud(metas)[0],
            title='sample 000007',
            notes=['scores from 0.3'],
            style=SMALL,
            axes=KITTI,
        )
        assert (self.draw(metas, 'whole') == expected).all()

    def test_a_missing_image_is_a_note(self, metas: dict[str, Any]):
        with_image = self.draw(metas, 'with image')
        Path(metas['img_paths'][0]).unlink()
        without = self.draw(metas, 'without image')
        # The row of the image, 180 pixels, is gone; the windows are as before.
        assert without.shape[0] == with_image.shape[0] - 180
        assert (without[12:, :550] == with_image[192:, :550]).all()
        # The legend says why.
        assert (without[12:, 561:] != with_image[192:, 561:]).any()

    def test_a_damaged_image_is_an_error(self, metas: dict[str, Any]):
        Path(metas['img_paths'][0]).write_bytes(b'no image')
        with pytest.raises(InputError, match=r'000007\.png does not decode'):
            self.draw(metas, 'damaged')

    def test_the_hook_draws_what_test_time_augmentation_joined(self, metas: dict[str, Any], tmp_path: Path):
        boxes = LiDARInstance3DBoxes(torch.tensor(BOXES, dtype=torch.float32))
        instances = InstanceData(bboxes_3d=boxes, labels_3d=torch.tensor([2, 2, 0]), scores_3d=torch.ones(3) * 0.5)
        sample = Det3DDataSample(metainfo=metas, pred_instances_3d=instances)
        hook = DrawPredictionsHook(tmp_path / 'out')
        visualizer = MultiViewVisualizer('hook', style=dict(width_px=640))
        visualizer.dataset_meta = dict(classes=CLASSES)
        runner = SimpleNamespace(visualizer=visualizer, test_dataloader=SimpleNamespace(dataset=[sample]))
        hook.before_test_epoch(runner)
        # The loader gives a list of views as inputs.
        hook.after_test_iter(runner, 0, dict(inputs=[dict(points=[]), dict(points=[])]), [sample])
        assert (read_image(tmp_path / 'out' / '000000_000007.png') == self.draw(metas, 'joined')).all()

    def test_a_cloud_alone(self, metas: dict[str, Any]):
        metas = {key: metas[key] for key in ('token', 'lidar_path', 'num_pts_feats')}
        picture = self.draw(metas, 'cloud')
        assert picture.shape == (round(34 / 3) + 279, 640, 3)
        rows, columns = coloured(picture[:, :560], 'Car')
        assert len(rows) > 20


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> KittiTree:
    tree = KittiTree(tmp_path_factory.mktemp('kitti'))
    tree.write({'train': ['000000', '000001'], 'val': ['000003']})
    create_infos(tree.root, progress=False)
    return tree


class TestBrowse:
    def data(self, tree: KittiTree, split: str, without: tuple[str, ...] = ()) -> Any:
        config = copy.deepcopy(Config.fromfile(str(ROOT / 'configs/_base_/datasets/kitti_lidar.py')))
        settings = config[f'{split}_dataloader']['dataset']
        settings = settings.get('dataset', settings)
        settings['data_root'] = str(tree.root)
        settings['pipeline'] = [step for step in settings['pipeline'] if step['type'].__name__ not in without]
        for step in settings['pipeline']:
            if 'db_sampler' in step:
                step['db_sampler']['data_root'] = str(tree.root)
        return browse.build_dataset(config, split)

    def test_an_augmented_sample_shows_its_image_with_boxes_on_the_objects(self, tree: KittiTree):
        data = self.data(tree, 'train', without=('PasteObjects', 'MoveObjects', 'ObjectRangeFilter'))
        plain, moved = browse.stored_sample(data, 0), browse.training_sample(data, 0, seed=1)
        frames = [sample.frame for sample in (plain, moved)]
        boxes = [sample.structures.ground_truth[0].boxes for sample in (plain, moved)]
        assert all(frame.images['image_2'].shape == (*IMAGE_HW, 3) and frame.axes == KITTI for frame in frames)
        assert moved.class_names == CLASSES and np.abs(boxes[0] - boxes[1]).max() > 1
        pixels = [sorted_pixels(one, frame.img_from_lidar['image_2']) for one, frame in zip(boxes, frames)]
        np.testing.assert_allclose(*pixels, atol=0.05)
        assert moved.title == 'sample 000000   as it enters the network'
        # Boxes in their own image: a label's place in the image is the one in the file.
        objects = read_objects(tree.root / 'training' / 'label_2' / '000000.txt')
        objects = objects.select(np.isin(objects.names, CLASSES))
        places = np.column_stack([objects.bottom_centers_m, np.ones(len(objects))]) @ tree.calibration.projections[2].T
        bottoms = to_homogeneous(boxes[0][:, :3], frames[0].img_from_lidar['image_2'])
        np.testing.assert_allclose(
            sorted((bottoms / bottoms[:, 2:])[:, 0]), sorted(places[:, 0] / places[:, 2]), atol=1e-2
        )

    def test_the_title_says_which_boxes_do_not_fit(self, tree: KittiTree):
        title = browse.training_sample(self.data(tree, 'train'), 0).title
        assert title.endswith('but the image is as stored: pasted and moved boxes do not fit it')
        title = browse.training_sample(self.data(tree, 'train', ('MoveObjects',)), 0).title
        assert title.endswith('pasted boxes do not fit it')

    def test_validation_frames_and_files(self, tree: KittiTree, tmp_path: Path):
        data = self.data(tree, 'val')
        assert browse.stored_sample(data, 0).picture(640).shape == (round(34 / 3) + 180 + 279, 640, 3)
        assert browse.training_sample(data, 0).picture(640).shape == (round(34 / 3) + 180 + 279, 640, 3)


def test_boxes_of_real_frames_surround_what_the_labels_mark(samples_of):
    """The image of a 3D box around a labelled object nearly is the 2D box that people drew."""
    root = samples_of('kitti') / 'training'
    overlaps = []
    for path in sorted((root / 'label_2').glob('*.txt')):
        objects = read_objects(path)
        objects = objects.select((objects.names != 'DontCare') & (objects.truncated == 0))
        calibration = read_calibration(root / 'calib' / path.name)
        boxes = boxes_lidar_from_camera(objects, np.linalg.inv(calibration.cam_from_lidar()))
        frame = dict(lidar2cam=calibration.cam_from_lidar(), cam2img=calibration.img_from_cam())
        views, _ = read_frame({**frame, 'img_path': str(root / 'image_2' / f'{path.stem}.png')})
        pixels = sorted_pixels(boxes, views.img_from_lidar['image_2'])
        low, high = pixels.min(axis=1), pixels.max(axis=1)
        inner = np.minimum(high, objects.boxes_2d[:, 2:]) - np.maximum(low, objects.boxes_2d[:, :2])
        both = inner.clip(0).prod(axis=1)
        areas = (high - low).prod(axis=1) + (objects.boxes_2d[:, 2:] - objects.boxes_2d[:, :2]).prod(axis=1)
        overlaps += (both / (areas - both)).tolist()
    assert len(overlaps) >= 3 and min(overlaps) > 0.7, overlaps
