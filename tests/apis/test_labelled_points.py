"""Point labels of a format outside the package: browsed, drawn in a test and in inference, wrong points in red."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from labelled_points import CLASSES, RANGE_M, LabelledPoints, LowPointsAreGround, read_npz, write_clouds
from mmdet3d.datasets import det3d_dataset
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.dataset import ClassBalancedDataset
from mmengine.evaluator import BaseMetric
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from perception3d.apis.browse import BrowseOptions, browse, build_dataset
from perception3d.apis.inferencer import Inferencer
from perception3d.checks import InputError
from perception3d.datasets import frame_dataset
from perception3d.datasets.box_dataset import SingleFrameBoxDataset
from perception3d.datasets.frame_dataset import FrameDataset
from perception3d.engine.runner import PerceptionRunner
from perception3d.engine.visualization_hook import DrawPredictionsHook
from perception3d.files import read_image
from perception3d.structures.frame import SensorFrame
from perception3d.structures.point_labels import PointLabels
from perception3d.structures.sample import SampleStructures, structures_of
from perception3d.visualization import draw
from perception3d.visualization.draw import PictureStyle, draw_sample, prepare
from perception3d.visualization.legend import draw_legend
from perception3d.visualization.palette import class_color
from perception3d.visualization.view3d import draw_scene
from perception3d.visualization.visualizer import MultiViewVisualizer

CONFIG = """
from labelled_points import META_KEYS, RANGE_M, LabelledPoints, LoadLabelledPoints, LowPointsAreGround
from mmdet3d.datasets.transforms import Pack3DDetInputs, PointsRangeFilter

default_scope = 'mmdet3d'
model = dict(type=LowPointsAreGround)
test_dataloader = dict(dataset=dict(
    type=LabelledPoints, data_root={root!r}, ann_file='infos.pkl', test_mode=True,
    pipeline=[
        dict(type=LoadLabelledPoints), dict(type=PointsRangeFilter, point_cloud_range=RANGE_M),
        dict(type=Pack3DDetInputs, keys=['points', 'pts_semantic_mask'], meta_keys=META_KEYS)]))
"""


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('clouds')
    write_clouds(root)
    (root / 'config.py').write_text(CONFIG.format(root=str(root)))
    return root


@pytest.fixture(scope='module')
def config(root: Path) -> Config:
    return Config.fromfile(root / 'config.py')


def pixels(picture: np.ndarray, name: str) -> int:
    """Returns how many pixels of the BEV panels have exactly the colour of a class."""
    bev = picture[-270:, : round(picture.shape[1] * 0.85)]
    return int((bev == class_color(name)).all(axis=2).sum())


def test_stored_and_augmented_samples_are_browsed(config: Config, tmp_path: Path):
    for augmented in (False, True):
        options = BrowseOptions('test', augmented, count=2, width_px=640)
        files = browse(config, tmp_path / str(augmented), options)
        assert [file.name for file in files] == ['000000_s0.png', '000001_s1.png']
        picture = read_image(files[0])
        # The labels come with the pipeline.
        assert [pixels(picture, name) > 20 for name in CLASSES] == [augmented] * 3
        # The points on disk are grey.
        assert augmented or picture[20:, :500].std() > 10


@pytest.mark.parametrize('with_points', [False, True])
def test_a_test_draws_the_points_of_the_network_and_the_wrong_ones_in_red(
    config: Config, tmp_path: Path, with_points: bool
):
    class Silent(BaseMetric):
        def process(self, data_batch: Any, data_samples: Any) -> None:
            self.results += [1] * len(data_samples)

        def compute_metrics(self, results: list) -> dict[str, float]:
            return {'count': len(results)}

    runner = PerceptionRunner(
        model=LowPointsAreGround(with_points),
        work_dir=str(tmp_path / 'work'),
        test_dataloader=dict(
            **config['test_dataloader'], batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        test_cfg=dict(),
        test_evaluator=Silent(),
        custom_hooks=[dict(type=DrawPredictionsHook, out_dir=tmp_path / 'shown')],
        default_scope='mmdet3d',
        experiment_name=f'labels_{tmp_path.name}',
        visualizer=dict(type=MultiViewVisualizer, style=dict(width_px=640)),
        log_level='ERROR',
    )
    assert runner.test() == {'count': 2}
    picture = read_image(tmp_path / 'shown' / '000001_s1.png')
    # All blocks are taken for poles, and red; ground and poles are right.
    assert [pixels(picture, name) > 20 for name in (*CLASSES, 'wrong')] == [True, True, False, True]


def test_inference_draws_and_writes_what_the_network_got(config: Config, root: Path, tmp_path: Path):
    torch.save({'state_dict': LowPointsAreGround().state_dict(), 'meta': {}}, tmp_path / 'weights.pth')
    inferencer = Inferencer(config, tmp_path / 'weights.pth', device='cpu')
    picture, described, result = inferencer.write(root / 's0.npz', tmp_path / 'out')
    points, _ = read_npz(root / 's0.npz')
    kept = ((points[:, :3] > RANGE_M[:3]) & (points[:, :3] < RANGE_M[3:])).all(axis=1)
    assert 1000 < kept.sum() < 2000
    np.testing.assert_array_equal(np.load(result), points[kept, 2] > -1.2)
    assert json.loads(described.read_text())['point_labels']['labels'] == np.load(result).tolist()
    found = read_image(picture)
    assert pixels(found, 'ground') > 20 and pixels(found, 'pole') > 20 and not pixels(found, 'wrong')


def test_only_points_with_a_known_truth_can_be_wrong():
    points = np.array([[5.0, 0, 0], [6, 1, 0], [7, -2, 0], [8, 3, 0]])
    truth, predicted = PointLabels([0, 1, -1, 1]), PointLabels([0, 0, 0, 1])
    both = SampleStructures((truth,), (predicted,))
    frame = SensorFrame(points=points)
    _, (_, (errors,)) = prepare(frame, CLASSES[:2], both).sources
    np.testing.assert_array_equal(errors.wrong.points, points[[1]])
    assert errors.counts().tolist() == [3, 1, 1, 0]
    # Other points cannot be compared: both are drawn in the colours of their classes.
    moved = SampleStructures((truth,), (PointLabels([0, 0], points=points[:2]),))
    assert prepare(frame, CLASSES[:2], moved).sources[1][1][0].name == 'point_labels'
    style = PictureStyle(width_px=640)
    for picture_of, least in ((draw_sample, 4), (draw_scene, 1)):
        assert pixels(picture_of(frame, CLASSES[:2], both, style=style), 'wrong') >= least
        assert not pixels(picture_of(frame, CLASSES[:2], SampleStructures(None, (predicted,)), style=style), 'wrong')


def test_structures_with_points_are_drawn_without_files_and_fit_the_view():
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(30, 60, 500), rng.uniform(-30, -20, 500), np.zeros(500)])
    sample = Det3DDataSample(metainfo={'token': 'made'})
    sample.pred_point_labels = PointLabels(np.ones(500, int), points=points)
    visualizer = MultiViewVisualizer('no_files', style=dict(width_px=640))
    visualizer.dataset_meta = {'classes': CLASSES}
    assert pixels(visualizer.draw(None, sample), 'pole') > 200
    sample.pred_point_labels = PointLabels(np.ones(500, int))
    with pytest.raises(InputError, match='names no images and no points'):
        visualizer.draw(None, sample)
    assert (visualizer.draw({'points': torch.tensor(points)}, sample) != 0).any()


def test_a_data_set_without_boxes_says_what_it_lacks(config: Config, root: Path):
    dataset = build_dataset(config, 'test')
    assert dataset.metainfo['classes'] == CLASSES and dataset.get_data_info(0)['eval_ann_info'] == {}
    with pytest.raises(InputError, match=r'LabelledPoints does not state which classes frame 0 of .*get_cat_ids'):
        ClassBalancedDataset(dataset, 0.1)

    class WithoutClasses(FrameDataset):
        def load_data_list(self) -> list:
            return [{}]

    assert WithoutClasses(ann_file='', metainfo={'classes': ['own']}).metainfo['classes'] == ['own']
    with pytest.raises(InputError, match='WithoutClasses has no classes'):
        WithoutClasses(ann_file='')

    class EmptyBoxes(SingleFrameBoxDataset):
        format_names = ('npz',)

    for test_mode in (False, True):
        frames = EmptyBoxes(str(root), 'infos.pkl', test_mode=test_mode, pipeline=[])
        assert len(frames) == 2 and len(frames.get_ann_info(0)['gt_bboxes_3d']) == 0 and frames.get_cat_ids(1) == set()


def test_a_legend_of_point_labels_explains_neither_lines_nor_scores(monkeypatch: pytest.MonkeyPatch):
    shown = []
    monkeypatch.setattr(draw, 'draw_legend', lambda *args: shown.append(args[4:]) or draw_legend(*args))
    sample = Det3DDataSample(metainfo={'token': 'a'})
    sample.pred_point_labels = PointLabels(np.zeros(2), points=np.ones((2, 3)), classes=CLASSES)
    visualizer = MultiViewVisualizer(name='legend')
    visualizer.dataset_meta = {'classes': CLASSES}
    visualizer.draw({'points': torch.ones(2, 3)}, sample)
    sample.pred_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(torch.ones(1, 7)), labels_3d=torch.zeros(1), scores_3d=torch.ones(1)
    )
    visualizer.draw({'points': torch.ones(2, 3)}, sample)
    (notes, _, marks), (box_notes, _, box_marks) = shown
    assert not [note for note in notes if 'scores' in note] and 'scores from 0.3' in box_notes
    assert 'outlines' not in marks and 'outlines' in box_marks


def test_no_table_of_boxes_is_logged_where_there_are_none(root: Path, monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []
    for module in (det3d_dataset, frame_dataset):
        monkeypatch.setattr(module, 'print_log', lambda text, *args: lines.append(text))
    assert len(LabelledPoints(str(root), 'infos.pkl', test_mode=True, pipeline=[])) == 2
    assert lines == ['The length of test dataset: 2']


def test_a_class_states_the_axes_of_its_lidar_frame(root: Path):
    class Turned(LabelledPoints):
        lidar_axes = 'x right, y forward'

    frames = Turned(str(root), 'infos.pkl', test_mode=True, pipeline=[])
    assert frames.metainfo['lidar_axes'] == frames.get_data_info(0)['lidar_axes'] == 'x right, y forward'
    other = Turned(str(root), 'infos.pkl', {'lidar_axes': 'x forward, y left'}, test_mode=True, pipeline=[])
    assert other.get_data_info(0)['lidar_axes'] == 'x forward, y left'
    Turned.lidar_axes = 'x east'
    with pytest.raises(InputError, match="unknown lidar_axes 'x east'"):
        Turned(str(root), 'infos.pkl', test_mode=True, pipeline=[])


def test_classes_that_commands_cannot_use_are_named(config: Config):
    class Bare(Dataset):
        def __len__(self) -> int:
            return 1

    other = Config(dict(test_dataloader=dict(dataset=dict(type=Bare))))
    with pytest.raises(InputError, match=r'Bare, has no get_data_info.*frame_dataset\.FrameDataset'):
        build_dataset(other, 'test')

    class Stripe:
        def in_bev(self, view: Any, style: Any) -> list:
            return []

    sample = Det3DDataSample()
    sample.pred_stripe = Stripe()
    with pytest.raises(InputError, match=r'pred_stripe is a Stripe, .*structures\.base\.Structure'):
        structures_of(sample)
