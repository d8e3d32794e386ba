"""The visualizer, the hook in a real test loop, and browsing, on a handmade nuScenes tree with four cameras."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import draw_sample
from mmdet3d.structures import CameraInstance3DBoxes, Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from mmengine.visualization import LocalVisBackend

from perception3d.apis.browse import (
    BrowseOptions,
    browse,
    build_dataset,
    choose_samples,
    show,
    stored_sample,
    training_sample,
)
from perception3d.checks import InputError
from perception3d.engine import visualization_hook
from perception3d.engine.runner import PerceptionRunner
from perception3d.engine.visualization_hook import DrawPredictionsHook
from perception3d.files import read_image
from perception3d.registry import DATASETS
from perception3d.structures.boxes import Boxes
from perception3d.structures.frame import X_FORWARD, Y_FORWARD, SensorFrame
from perception3d.structures.sample import SampleStructures, boxes_of, ground_truth_boxes
from perception3d.structures.views import View3D
from perception3d.visualization import view3d
from perception3d.visualization.draw import PictureStyle
from perception3d.visualization.sample import axes_of, read_cloud, read_frame
from perception3d.visualization.video import write_video
from perception3d.visualization.visualizer import MultiViewVisualizer

STYLE = dict(width_px=480)

CONFIG = """
from mmdet3d.datasets import CBGSDataset
from mmdet3d.datasets.transforms import LoadAnnotations3D
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.datasets.transforms.camera_augment import BEVAugment, ImageAugment
from perception3d.datasets.transforms.camera_loading import LoadMultiViewHistory
from perception3d.datasets.transforms.camera_packing import PackCameraInputs

model = dict(type='any')
train_dataloader = dict(dataset=dict(type=CBGSDataset, dataset=dict(
    type=MultiFrameNuScenesDataset, data_root={root!r}, ann_file='perception3d_infos_hand_train.pkl', num_frames=2,
    pipeline=[
        dict(type=LoadMultiViewHistory), dict(type=ImageAugment, final_hw=(32, 64)),
        dict(type=LoadAnnotations3D, with_bbox_3d=True, with_label_3d=True), dict(type=BEVAugment),
        dict(type=PackCameraInputs)])))
test_dataloader = dict(dataset=dict(
    type=MultiFrameNuScenesDataset, data_root={root!r}, ann_file='perception3d_infos_hand_val.pkl', num_frames=2,
    test_mode=True,
    pipeline=[
        dict(type=LoadMultiViewHistory), dict(type=ImageAugment, final_hw=(32, 64), test_mode=True),
        dict(type=PackCameraInputs)]))
"""


@pytest.fixture(scope='module')
def config(nuscenes_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp('config') / 'browse.py'
    path.write_text(CONFIG.format(root=str(nuscenes_tree)))
    return Config.fromfile(path)


@pytest.fixture(scope='module')
def training_set(config: Config) -> Any:
    return build_dataset(config, 'train')


@pytest.fixture(scope='module')
def test_set(config: Config) -> Any:
    return build_dataset(config, 'test')


class Echo(BaseModel):
    """Predicts the annotations, moved by half a metre, with scores 0.9, 0.8, ..."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Any, data_samples: list[Det3DDataSample], mode: str = 'tensor') -> Any:
        return [with_prediction(sample) for sample in data_samples]


def with_prediction(sample: Det3DDataSample) -> Det3DDataSample:
    truth = sample.eval_ann_info
    boxes = truth['gt_bboxes_3d'].clone()
    boxes.tensor[:, 0] += 0.5
    scores = 0.9 - 0.1 * torch.arange(len(boxes))
    labels = torch.as_tensor(truth['gt_labels_3d'])
    sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, scores_3d=scores, labels_3d=labels)
    return sample


class Silent(BaseMetric):
    """Counts samples."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {'count': len(results)}


def make_visualizer(dataset: Any, name: str, **settings: Any) -> MultiViewVisualizer:
    visualizer = MultiViewVisualizer(name, style=STYLE, **settings)
    visualizer.dataset_meta = dataset.metainfo
    return visualizer


class TestVisualizer:
    def test_writes_the_picture_whole(self, test_set: Any, tmp_path: Path):
        packed = test_set[1]
        sample = with_prediction(packed['data_samples'])
        visualizer = make_visualizer(test_set, 'whole')
        path = tmp_path / 'new' / 'sample.png'
        visualizer.add_datasample('sample', None, sample, out_file=str(path), pred_score_thr=0.0)
        picture = visualizer.draw(None, sample, pred_score_thr=0.0)
        assert (read_image(path) == picture).all() and picture.shape[1] == 480
        assert [file.name for file in path.parent.iterdir()] == ['sample.png']

    def test_equals_a_drawing_from_the_tables(self, test_set: Any):
        packed = test_set[1]
        sample = with_prediction(packed['data_samples'])
        metas = sample.metainfo
        visualizer = make_visualizer(test_set, 'tables')
        names = metas['cam_names']
        # num_frames is 2: the files of the four current images come first.
        images = {name: read_image(metas['img_paths'][i]) for i, name in enumerate(names)}
        matrices = {name: metas['stored_from_cam'][i] @ metas['cam_from_lidar'][i] for i, name in enumerate(names)}
        truth = sample.eval_ann_info
        expected = draw_sample(
            images,
            matrices,
            test_set.metainfo['classes'],
            Boxes(truth['gt_bboxes_3d'].tensor.numpy(), truth['gt_labels_3d']),
            points=np.fromfile(metas['lidar_path'], np.float32).reshape(-1, 5),
            title=f'sample {metas["token"]}   scene scene-b   2020-09-13 12:28:20 UTC   1600000100.500 s',
            style=visualizer.style,
        )
        assert (visualizer.draw(None, sample, draw_pred=False) == expected).all()

    def test_the_data_set_states_which_way_is_forward(self, config: Config, test_set: Any):
        metas = test_set[0]['data_samples'].metainfo
        assert metas['lidar_axes'] == 'x right, y forward' and axes_of(metas) == Y_FORWARD
        settings = {**config['test_dataloader']['dataset'], 'metainfo': {'lidar_axes': X_FORWARD.text}}
        turned = DATASETS.build(settings)
        assert axes_of(turned[0]['data_samples'].metainfo) == X_FORWARD
        # A sample that was packed without them has those of its data set.
        bare = {key: value for key, value in metas.items() if key != 'lidar_axes'}
        assert axes_of(bare) == X_FORWARD
        sample = Det3DDataSample(metainfo=bare)
        picture = make_visualizer(test_set, 'axes').draw(None, sample)
        assert (picture == make_visualizer(test_set, 'same').draw(None, Det3DDataSample(metainfo=metas))).all()

    def test_switches(self, test_set: Any):
        sample = with_prediction(test_set[0]['data_samples'])
        visualizer = make_visualizer(test_set, 'switches', draw_points=False)
        pictures = [
            visualizer.draw(None, sample, draw_gt=gt, draw_pred=pred, pred_score_thr=score)
            for gt, pred, score in ((True, True, 0.0), (True, False, 0.0), (False, True, 0.0), (True, True, 0.85))
        ]
        for i, first in enumerate(pictures):
            assert not any((first == second).all() for second in pictures[i + 1 :])
        assert len(boxes_of(sample.pred_instances_3d).above(0.85)) == 1

    def test_draws_what_entered_the_network(self, test_set: Any):
        packed = test_set[0]
        images, sample = packed['inputs']['img'], packed['data_samples']
        views, _ = read_frame(sample.metainfo, images)
        names = sample.metainfo['cam_names']
        assert list(views.images) == names and len(names) == 4 and images.shape[0] == 8
        past, _ = read_frame(sample.metainfo, images, history=1)
        for i, name in enumerate(names):
            assert (views.images[name] == images[i].permute(1, 2, 0).numpy()).all()
            assert (views.img_from_lidar[name] == sample.metainfo['img_from_lidar'][i]).all()
            assert (past.images[name] == images[4 + i].permute(1, 2, 0).numpy()).all()
        visualizer = make_visualizer(test_set, 'network', raw_images=False)
        expected = visualizer.draw_frame(views, sample)
        assert (visualizer.draw(images, sample) == expected).all()
        assert (visualizer.draw({'img': images}, sample) == expected).all()
        assert not np.array_equal(make_visualizer(test_set, 'raw').draw(images, sample), expected)

    def test_backends_get_the_picture(self, test_set: Any, tmp_path: Path):
        visualizer = make_visualizer(
            test_set, 'backend', vis_backends=[dict(type=LocalVisBackend)], save_dir=str(tmp_path)
        )
        sample = test_set[0]['data_samples']
        visualizer.add_datasample('look', None, sample, step=7)
        written = list(tmp_path.rglob('look_7.png'))
        assert len(written) == 1 and (read_image(written[0]) == visualizer.draw(None, sample)).all()

    def test_points_follow_the_augmentation(self, tmp_path: Path):
        path = tmp_path / 'points.bin'
        np.array([[1, 2, 3, 0, 0]], np.float32).tofile(path)
        # A quarter turn to the left, then 10 m forward.
        move = np.array([[0, -1, 0, 0], [1, 0, 0, 10], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        points, notes = read_cloud({'lidar_path': str(path), 'num_pts_feats': 5, 'aug_from_lidar': move})
        assert points.tolist() == [[-2, 11, 3]] and not notes
        assert read_cloud({'lidar_path': str(tmp_path / 'gone.bin')}) == (None, ['no point cloud on disk'])
        path.write_bytes(b'123')
        with pytest.raises(InputError, match=r'points\.bin is truncated'):
            read_cloud({'lidar_path': str(path)})

    def test_mistakes_are_named(self, test_set: Any):
        visualizer = make_visualizer(test_set, 'mistakes')
        packed = test_set[0]
        with pytest.raises(InputError, match='names no images'):
            visualizer.draw(None, Det3DDataSample())
        with pytest.raises(InputError, match="carries no 'img_from_lidar'"):
            visualizer.draw(packed['inputs']['img'], Det3DDataSample())
        with pytest.raises(InputError, match='before normalisation'):
            read_frame(packed['data_samples'].metainfo, packed['inputs']['img'].float())
        with pytest.raises(InputError, match='there is no frame 5'):
            read_frame(packed['data_samples'].metainfo, packed['inputs']['img'], 5)
        with pytest.raises(InputError, match='to the LiDAR frame first'):
            boxes_of(InstanceData(bboxes_3d=CameraInstance3DBoxes(torch.zeros(1, 7)), labels_3d=torch.zeros(1)))
        with pytest.raises(InputError, match='knows no class names'):
            MultiViewVisualizer('nameless').draw(None, packed['data_samples'])

    def test_training_annotations_win(self, training_set: Any):
        sample = training_set[0]['data_samples']
        assert len(ground_truth_boxes(sample)) == len(sample.gt_instances_3d)
        assert ground_truth_boxes(Det3DDataSample()) is None
        empty = InstanceData(bboxes_3d=LiDARInstance3DBoxes(torch.zeros(0, 9), box_dim=9), labels_3d=torch.zeros(0))
        assert len(boxes_of(empty)) == 0


class TestHook:
    def run(self, config: Config, tmp_path: Path, **settings: Any) -> Path:
        """Tests the echo model with the hook; returns the folder of the pictures."""
        out = tmp_path / 'pictures'
        loader = dict(
            **config['test_dataloader'],
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
        hook = dict(type=DrawPredictionsHook, **{'out_dir': out, **settings})
        runner = PerceptionRunner(
            model=Echo(),
            work_dir=str(tmp_path / 'work'),
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=Silent(),
            custom_hooks=[hook],
            default_scope='mmdet3d',
            experiment_name=tmp_path.name,
            visualizer=dict(type=MultiViewVisualizer, style=STYLE, vis_backends=[dict(type=LocalVisBackend)]),
            log_level='ERROR',
        )
        assert runner.test() == {'count': 5}
        return out

    def test_one_picture_a_sample_and_a_video(self, config: Config, test_set: Any, tmp_path: Path):
        out = self.run(config, tmp_path, video='gif', score_thr=0.1)
        names = [f'{index:06d}_sample_scene-b_{index}.png' for index in range(5)]
        assert sorted(file.name for file in out.iterdir()) == [*names, 'scene-b.gif']
        sample = with_prediction(test_set[3]['data_samples'])
        expected = make_visualizer(test_set, 'expected').draw(None, sample, pred_score_thr=0.1)
        assert (read_image(out / names[3]) == expected).all()
        write_video(tmp_path / 'again.gif', (read_image(out / name) for name in names))
        assert (tmp_path / 'again.gif').read_bytes() == (out / 'scene-b.gif').read_bytes()

    def test_scenes_and_samples_of_any_name(self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def rename(sample: Det3DDataSample) -> Det3DDataSample:
            index = sample.metainfo['sample_idx']
            scene = ('../up', 'a'), ('../up', 'b'), ('.._up', 'c'), ('/', 'd'), ('', '')
            sample.set_metainfo(dict(token='../up', scene_name=scene[index][0], scene_token=scene[index][1]))
            return with_prediction(sample)

        monkeypatch.setattr(Echo, 'forward', lambda self, inputs, data_samples, mode: list(map(rename, data_samples)))
        out = self.run(config, tmp_path, video='gif')
        videos = ['___up.gif', '___up_2.gif', '___up_3.gif', '_.gif', 'scene.gif']
        assert sorted(file.name for file in out.iterdir()) == sorted(
            [*(f'{k:06d}____up.png' for k in range(5)), *videos]
        )
        assert {path.name for path in tmp_path.iterdir()} == {'pictures', 'work'}

    def test_a_folder_that_cannot_be_is_named_before_the_test(self, config: Config, tmp_path: Path):
        (tmp_path / 'file').touch()
        with pytest.raises(InputError, match='file is a file, but a folder is needed'):
            self.run(config, tmp_path, out_dir=tmp_path / 'file' / 'pictures')

    def test_sparse(self, config: Config, tmp_path: Path):
        out = self.run(config, tmp_path, interval=2, max_samples=2)
        assert [file.name[:6] for file in sorted(out.iterdir())] == ['000000', '000002']

    def test_second_of_two_processes(self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(visualization_hook, 'get_world_size', lambda: 2)
        monkeypatch.setattr(visualization_hook, 'get_rank', lambda: 1)
        # It has samples 1 and 3; what a sampler adds to come out even is not drawn again.
        out = self.run(config, tmp_path)
        assert [file.name[:6] for file in sorted(out.iterdir())] == ['000001', '000003']

    def test_into_the_backends(self, config: Config, tmp_path: Path):
        self.run(config, tmp_path, out_dir=None, max_samples=1)
        assert [file.name for file in (tmp_path / 'work').rglob('*.png')] == ['sample_000000_0.png']

    def test_mistakes_are_named(self):
        with pytest.raises(InputError, match='interval 0'):
            DrawPredictionsHook('x', interval=0)
        with pytest.raises(InputError, match="'avi' needs an out_dir"):
            DrawPredictionsHook('x', video='avi')
        with pytest.raises(InputError, match='needs an out_dir'):
            DrawPredictionsHook(video='mp4')


class TestBrowse:
    def test_shows_what_the_pipeline_gives(self, training_set: Any):
        np.random.seed(4)
        packed = training_set.prepare_data(1)
        sample = packed['data_samples']
        picture = training_sample(training_set, 1, seed=3).picture(480)
        visualizer = make_visualizer(training_set, 'pipeline', raw_images=False)
        expected = visualizer.draw(packed['inputs']['img'], sample)
        # All but the title, which says that it is the network's view.
        assert (picture[12:] == expected[12:]).all() and not (picture == expected).all()
        assert not (picture == training_sample(training_set, 1, seed=5).picture(480)).all()
        assert not (picture == training_sample(training_set, 1, history=1, seed=3).picture(480)).all()

    def test_stored_samples_are_not_augmented(self, training_set: Any, test_set: Any):
        for dataset in (training_set, test_set):
            info = dataset.get_data_info(2)
            views, _ = read_frame(info)
            truth = info.get('ann_info') or info['eval_ann_info']
            boxes = Boxes(truth['gt_bboxes_3d'].tensor.numpy(), truth['gt_labels_3d'])
            plain = draw_sample(
                views.images,
                views.img_from_lidar,
                dataset.metainfo['classes'],
                boxes,
                points=read_cloud(info)[0],
                style=make_visualizer(dataset, f'stored {len(boxes)}').style,
            )
            assert (stored_sample(dataset, 2).picture(480)[12:] == plain[12:]).all()

    def test_choice_of_samples(self, training_set: Any):
        assert choose_samples(training_set, BrowseOptions(count=2)) == [0, 1]
        assert choose_samples(training_set, BrowseOptions()) == [0, 1, 2, 3, 4]
        assert choose_samples(training_set, BrowseOptions(indices=[4, 1])) == [4, 1]
        assert choose_samples(training_set, BrowseOptions(scene='scene-a', count=3)) == [0, 1, 2]
        assert len(choose_samples(training_set, BrowseOptions(scene='token scene-a'))) == 5
        with pytest.raises(InputError, match='no sample 5: the data set has 0 to 4'):
            choose_samples(training_set, BrowseOptions(indices=[5]))
        with pytest.raises(InputError, match="unknown scene 'scene-x': did you mean 'scene-a'"):
            choose_samples(training_set, BrowseOptions(scene='scene-x'))

    def test_files(self, config: Config, tmp_path: Path):
        written = browse(config, tmp_path, BrowseOptions(split='test', indices=[2, 0], width_px=480))
        assert [path.name for path in written] == ['000002_sample_scene-b_2.png', '000000_sample_scene-b_0.png']
        assert all(read_image(path).shape[1] == 480 for path in written)
        options = BrowseOptions(split='test', augmented=False, scene='scene-b', video='gif', width_px=480)
        assert browse(config, tmp_path, options) == [tmp_path / 'scene-b.gif']
        with pytest.raises(InputError, match="unknown split 'vall'"):
            browse(config, tmp_path, BrowseOptions(split='vall'))

    def test_the_scene_in_space(self, config: Config, test_set: Any, tmp_path: Path):
        options = BrowseOptions(split='test', augmented=False, indices=[1], width_px=480, view='3d')
        (path,) = browse(config, tmp_path, options)
        sample = stored_sample(test_set, 1)
        expected = view3d.draw_scene(
            sample.frame, sample.class_names, sample.structures, sample.title, style=PictureStyle(width_px=480)
        )
        assert (read_image(path) == expected).all()
        nothing = view3d.draw_scene(
            sample.frame, sample.class_names, SampleStructures(), style=PictureStyle(width_px=480)
        )
        assert (expected[12:, :420] != nothing[12:, :420]).any(axis=2).sum() > 20

    def test_a_window_for_each_sample(self, config: Config, monkeypatch: pytest.MonkeyPatch):
        windows: list[list[Any]] = []

        class Window:
            def create_window(self, title: str, width: int, height: int) -> bool:
                windows.append([])
                return 'as stored' in title

            def add_geometry(self, shape: Any) -> None:
                windows[-1].append(shape)

            def get_render_option(self) -> Any:
                return SimpleNamespace()

            def run(self) -> None:
                pass

            def destroy_window(self) -> None:
                pass

        fake = SimpleNamespace(
            utility=SimpleNamespace(Vector3dVector=np.asarray, Vector2iVector=np.asarray),
            geometry=SimpleNamespace(
                PointCloud=lambda points: SimpleNamespace(points=points),
                LineSet=lambda points, lines: SimpleNamespace(points=points, lines=lines),
            ),
            visualization=SimpleNamespace(Visualizer=Window),
        )
        monkeypatch.setattr(view3d, 'open3d_module', lambda: fake)
        monkeypatch.setenv('DISPLAY', ':7')
        options = BrowseOptions(split='test', augmented=False, indices=[1, 0])
        assert show(config, options) == len(windows) == 2
        cloud, boxes = windows[0]
        sample = stored_sample(build_dataset(config, 'test'), 1)
        assert len(cloud.points) == len(cloud.colors) == len(sample.frame.points)
        # Twelve edges and a cross for each box, two ends each.
        assert len(boxes.points) == 28 * len(sample.structures.ground_truth[0]) == 2 * len(boxes.lines)
        monkeypatch.delenv('DISPLAY')
        monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
        with pytest.raises(InputError, match='no display'):
            show('no config is read before', options)


class TestView3d:
    def test_lines_of_a_box(self):
        boxes = Boxes([[0, 12, -1, 8, 2, 2, np.pi / 2], [5, 0, 0, 1, 1, 1, 0]], [0, 1], classes=('car', 'pedestrian'))
        (lines,) = boxes.primitives(View3D())
        colors = view3d.rgb_colors(lines)
        assert lines.segments.shape == (28, 2, 3) and colors.shape == (28, 3)
        lengths = np.linalg.norm(lines.segments[:12, 0] - lines.segments[:12, 1], axis=1)
        assert sorted(np.round(lengths, 6)) == [2] * 8 + [8] * 4
        # The cross lies on the front, which is ahead.
        np.testing.assert_allclose(lines.segments[12:14, :, 1], 16)
        assert (lines.segments[14:, :, 0] > 4).all() and (colors[0] != colors[-1]).any()

    def test_a_missing_library_or_display_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        nothing = SensorFrame(), [], SampleStructures()
        monkeypatch.setenv('DISPLAY', ':7')
        (tmp_path / 'open3d.py').write_text("raise ImportError('libusb-1.0.so.0: cannot open shared object file')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(view3d.sys.modules, 'open3d', raising=False)
        with pytest.raises(InputError, match='apt-get install libgl1 libusb-1.0-0 libx11-6 libgomp1'):
            view3d.show_scene(*nothing)
        monkeypatch.setitem(view3d.sys.modules, 'open3d', None)
        with pytest.raises(InputError, match='pip install open3d'):
            view3d.show_scene(*nothing)
        monkeypatch.setattr(view3d, 'sys', SimpleNamespace(platform='linux'))
        for variable in ('DISPLAY', 'WAYLAND_DISPLAY'):
            monkeypatch.delenv(variable, raising=False)
        with pytest.raises(InputError, match='no display.*--view 3d'):
            view3d.show_scene(*nothing)
