"""Model, data sets and metrics that state one fact differently are refused before the first step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import ObjectNameFilter, ObjectRangeFilter, PointsRangeFilter
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.datasets.pipeline_steps import check_class_lists, steps_of
from perception3d.engine.agreement import AgreementHook, check_runner, check_teacher, check_trained_classes
from perception3d.engine.data_kept import check_data_is_kept
from perception3d.engine.runner import PerceptionRunner
from perception3d.formats.custom_boxes.dataset import PointBoxDataset
from perception3d.formats.custom_boxes.evaluation.metric import LidarDetectionMetric
from perception3d.formats.kitti.dataset import KittiFrameDataset
from perception3d.formats.kitti.evaluation.metric import KittiFrameMetric
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.evaluation.metric import NuScenesDetectionMetric
from perception3d.models.lidar_det.expected_data import expected_of_parts
from perception3d.registry import MODELS
from perception3d.structures.expected_data import ExpectedData, Stated, expected_of_class

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
KITTI = ('Pedestrian', 'Cyclist', 'Car')
# Stand-ins here have parts of the names of mmdet3d's models.
expected_of_class.register(SimpleNamespace, expected_of_parts)
SPAN = [0, -20, -3, 40, 20, 1]
# length, width, height
SIZES = {'Pedestrian': (0.8, 0.6, 1.7), 'Cyclist': (1.8, 0.6, 1.7), 'Car': (4.2, 1.8, 1.6)}


class Frames(list):
    """Ten frames with one object of each class."""

    def __init__(self, classes, steps=(), **settings):
        super().__init__(range(10))
        self.metainfo = {'classes': classes}
        self.pipeline = SimpleNamespace(transforms=list(steps))
        vars(self).update(settings)

    def get_ann_info(self, index):
        classes = self.metainfo['classes']
        boxes = [[5.0 * k, 0, -1.7, *SIZES.get(name, (1, 1, 1)), 0] for k, name in enumerate(classes)]
        return {'gt_bboxes_3d': LiDARInstance3DBoxes(torch.tensor(boxes)), 'gt_labels_3d': np.arange(len(classes))}


def _runner(model, **loops):
    built = {}
    for name in ('train', 'val', 'test'):
        dataset, *metrics = loops.get(name, [None])
        evaluator = SimpleNamespace(metrics=metrics)
        loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset), evaluator=evaluator)
        if dataset is not None:
            built[name] = loop
    return SimpleNamespace(model=model, built_loops=built)


@pytest.fixture(scope='module')
def models():
    init_default_scope('mmdet3d')
    names = {
        'pillars': 'point_pillars/point_pillars_tiny_10e_kitti_sim',
        'second': 'second/second_tiny_10e_kitti_sim',
        'points': 'point_rcnn/point_rcnn_c16_160e_kitti',
        'camera': 'fast_bev/fast_bev_tiny_4frame_96x352_9e_sim',
        'centre': 'center_point/center_point_pillar_cyclic20e_nuscenes',
    }
    return {key: MODELS.build(load_config(CONFIGS / f'{name}.py').model) for key, name in names.items()}


def _nuscenes():
    return tuple(load_config(CONFIGS / 'center_point/center_point_pillar_cyclic20e_nuscenes.py').class_names)


def test_what_agrees_passes(models):
    steps = [PointsRangeFilter(SPAN), ObjectRangeFilter(SPAN), ObjectNameFilter(list(KITTI))]
    data = Frames(KITTI, steps)
    metrics = [KittiFrameMetric(data_root='x'), LidarDetectionMetric({'Car': 0.7, 'Cyclist': 0.5, 'Pedestrian': 0.5})]
    AgreementHook().before_run(_runner(models['pillars'], train=[data], val=[data, *metrics]))
    check_runner(_runner(models['second'], train=[data]))
    check_runner(_runner(models['points'], train=[Frames(KITTI, [PointsRangeFilter([0, -40, -3, 70.4, 40, 1])])]))
    check_runner(_runner(models['centre'], test=[Frames(_nuscenes()), NuScenesDetectionMetric('x')]))
    check_runner(_runner(models['camera'], train=[Frames(_nuscenes(), num_frames=4)]))
    # What has no classes, as of a plugin, is not compared.
    check_runner(_runner(torch.nn.Identity(), train=[[1, 2]]))


@pytest.mark.parametrize(
    'model, loops, message',
    [
        ('pillars', dict(train=[Frames(KITTI[:2])]), 'num_classes is 3, but the data set of train_dataloader has 2 cl'),
        ('camera', dict(test=[Frames(('car', 'bus'))]), r'bbox_head.num_classes is 10, .*has 2 classes \(car, bus\)'),
        ('points', dict(train=[Frames(KITTI[:2])]), 'rpn_head.num_classes is 3'),
        ('pillars', dict(train=[Frames(KITTI)], val=[Frames(KITTI[::-1])]), 'Car, but val_dataloader Car, Cyclist'),
        (
            'pillars',
            dict(train=[Frames(KITTI[::-1])]),
            r'sizes\[0\] \[0.8, 0.6, 1.73\] is for Car, whose',
        ),
        ('second', dict(train=[Frames(KITTI[::-1])]), r'must be in the order of the classes, Car, Cyclist, Pedestrian'),
        ('pillars', dict(val=[Frames(KITTI), LidarDetectionMetric({'Bus': 0.5})]), 'iou_thresholds'),
        ('pillars', dict(val=[Frames(('A', 'B', 'C')), KittiFrameMetric(data_root='x')]), 'A, B, C is scored'),
        ('pillars', dict(val=[Frames(KITTI), NuScenesDetectionMetric('x')]), 'nuScenes benchmark'),
        ('camera', dict(train=[Frames(tuple('abcdefghij'), num_frames=2)]), 'loads 2 frames .* takes 4'),
        ('camera', dict(val=[Frames(tuple('abcdefghij'), num_frames=None, offsets_s=(-0.5,))]), 'loads 2 frames'),
        (
            'pillars',
            dict(train=[Frames(KITTI, [PointsRangeFilter(SPAN), ObjectRangeFilter([0, -39.68, -3, 69.12, 39.68, 1])])]),
            'ObjectRangeFilter of train_dataloader keeps the range .*69.12.*voxel_layer has .*40, 20',
        ),
        (
            'points',
            dict(train=[Frames(KITTI, [PointsRangeFilter(SPAN), ObjectRangeFilter([0, -40, -3, 70.4, 40, 1])])]),
            'PointsRangeFilter of train_dataloader .*40, 20, 1.*data_preprocessor.point_cloud_range has .*70.4',
        ),
        ('pillars', dict(train=[Frames(KITTI, [ObjectNameFilter(['Car'])])]), 'ObjectNameFilter keeps Car'),
    ],
)
def test_what_disagrees_is_named(models, model, loops, message):
    with pytest.raises(InputError, match=message):
        check_runner(_runner(models[model], **loops))


def test_tasks_are_compared_by_name_and_order(models):
    names = list(_nuscenes())
    names[1], names[2] = names[2], names[1]
    with pytest.raises(InputError, match='pts_bbox_head.tasks name the classes car, truck.*has car, construction_veh'):
        check_runner(_runner(models['centre'], train=[Frames(tuple(names))]))


def test_data_sets_and_models_in_wrappers_are_compared(models):
    inner = Frames(KITTI, [ObjectNameFilter(['Car'])])
    wrapped = SimpleNamespace(metainfo=inner.metainfo, datasets=[SimpleNamespace(dataset=inner)])
    with pytest.raises(InputError, match='ObjectNameFilter'):
        check_runner(_runner(SimpleNamespace(module=models['pillars']), train=[wrapped]))
    student = SimpleNamespace(student=models['camera'])
    check_runner(_runner(student, train=[Frames(_nuscenes(), num_frames=2)]))
    with pytest.raises(InputError, match='num_classes is 10'):
        check_runner(_runner(student, train=[Frames(('car',))]))


def test_steps_inside_of_steps_are_compared():
    inner = SimpleNamespace(transforms=[ObjectNameFilter(['Car'])])
    outer = SimpleNamespace(subroutines=[inner], other=3)
    assert [type(step).__name__ for step in steps_of([outer])] == ['SimpleNamespace', 'ObjectNameFilter']
    with pytest.raises(InputError, match='keeps Car'):
        check_class_lists('data', Compose([lambda sample: sample, ObjectNameFilter(['Car'])]), KITTI)


def test_a_checkpoint_of_other_classes_is_refused():
    meta = {'dataset_meta': {'classes': ('Car', 'Pedestrian', 'Cyclist')}}
    with pytest.raises(InputError, match='a.pth was trained for the classes Car, Pedestrian, Cyclist, but .* Pedestr'):
        check_trained_classes(meta, {'classes': KITTI}, 'a.pth')
    check_trained_classes({}, {'classes': KITTI}, 'a.pth')


def test_a_teacher_of_reordered_classes_is_refused(models, capsys):
    data = Frames(KITTI)
    model = SimpleNamespace(
        teachers={'': models['pillars']}, teacher_metas={'': {'dataset_meta': {'classes': KITTI[::-1]}}}
    )
    with pytest.raises(InputError, match='the teacher was trained for the classes Car, Cyclist, Pedestrian, but .*'):
        check_teacher(SimpleNamespace(module=model), data)
    model.teacher_metas = {'': {'dataset_meta': {'classes': KITTI}}}
    check_teacher(model, data)
    check_teacher(models['pillars'], data)
    assert not capsys.readouterr().out
    model.teachers = {'sight': models['camera']}
    model.teacher_metas = {'sight': {'dataset_meta': {'classes': KITTI[::-1]}}}
    with pytest.raises(InputError, match="the teacher 'sight' was trained for the classes"):
        check_teacher(model, data)
    model.teacher_metas = {'sight': {}}
    check_teacher(model, data)


def test_weights_of_reordered_classes_cannot_begin_a_training(tmp_path):
    path = str(tmp_path / 'a.pth')
    model = torch.nn.Linear(2, 2)
    runner = PerceptionRunner(
        model,
        work_dir=str(tmp_path),
        train_dataloader=dict(dataset=Frames(KITTI), batch_size=1, sampler=dict(type='DefaultSampler')),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    )
    runner._train_loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=Frames(KITTI)))
    for classes in (KITTI, ('Bus', 'Van')):
        torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': classes}}}, path)
        runner.load_checkpoint(path)
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': KITTI[::-1]}}}, path)
    with pytest.raises(InputError, match='load_from=.*a.pth was trained for the classes Car, Cyclist, Pedestrian, but'):
        runner.load_checkpoint(path)


def test_each_view_has_ranges_of_its_own_and_objects_lie_in_them(models):
    wide, narrow = [-50, -50, -5, 50, 50, 3], [0, -10, -3, 30, 10, 1]
    pair = SimpleNamespace(
        student=Compose([PointsRangeFilter(SPAN), ObjectRangeFilter(narrow)]),
        teacher=Compose([PointsRangeFilter(wide), ObjectRangeFilter(wide)]),
    )
    check_runner(_runner(models['pillars'], train=[Frames(KITTI, [pair])]))
    pair.student, pair.teacher = pair.teacher, pair.student
    with pytest.raises(InputError, match=r'PointsRangeFilter .*50, 50, 3\], but data_preprocessor.voxel_layer has'):
        check_runner(_runner(models['pillars'], train=[Frames(KITTI, [pair])]))
    steps = [PointsRangeFilter(SPAN), ObjectRangeFilter(wide)]
    check_runner(_runner(models['camera'], train=[Frames(_nuscenes(), steps, num_frames=4)]))
    # Points are kept in all of the range, objects may be in a part of it.
    with pytest.raises(InputError, match='PointsRangeFilter .* both must be the same'):
        check_runner(_runner(models['pillars'], train=[Frames(KITTI, [PointsRangeFilter(narrow)])]))


def test_a_range_of_the_preprocessor_is_compared_with_the_filters():
    wide = [-50, -50, -5, 50, 50, 3]
    model = SimpleNamespace(data_preprocessor=SimpleNamespace(point_cloud_range=wide))
    data = Frames(KITTI, [PointsRangeFilter(SPAN), ObjectRangeFilter(SPAN)])
    with pytest.raises(InputError, match=r'PointsRangeFilter of train.* but data_preprocessor.point_cloud_range has'):
        check_runner(_runner(model, train=[data]))
    model.data_preprocessor.point_cloud_range = SPAN
    check_runner(_runner(model, train=[data]))
    model.data_preprocessor.point_cloud_range = None
    check_runner(_runner(model, train=[data]))
    data = Frames(KITTI, [PointsRangeFilter(SPAN), ObjectRangeFilter(wide)])
    with pytest.raises(InputError, match='ObjectRangeFilter of train.* but PointsRangeFilter of train_dataloader has'):
        check_runner(_runner(model, train=[data]))


def test_a_segmentation_head_has_the_classes_of_its_data():
    data = Frames(('road', 'pole'))
    check_runner(_runner(SimpleNamespace(decode_head=SimpleNamespace(num_classes=2)), train=[data]))
    with pytest.raises(InputError, match='decode_head.num_classes is 5, but the data set of train.* has 2 classes'):
        check_runner(_runner(SimpleNamespace(decode_head=SimpleNamespace(num_classes=5)), train=[data]))


def test_a_model_of_another_package_says_itself_what_it_expects():
    """Its parts have names of its own; those of mmdet3d's names are then not read."""
    stated = ExpectedData(
        class_names=Stated('names', ['road', 'pole']),
        entries_per_class={'widths': 2},
        num_frames=Stated('history', 3),
        range_m=Stated('area', [0, -20, -3, 40, 20, 1]),
    )
    model = SimpleNamespace(expected_data=lambda: stated, decode_head=SimpleNamespace(num_classes=5))
    right = dict(num_frames=3, steps=[PointsRangeFilter(SPAN)])
    check_runner(_runner(model, train=[Frames(('road', 'pole'), **right)]))
    for data, message in (
        (Frames(('pole', 'road'), **right), 'names name the classes road, pole, but .* pole, road'),
        (Frames(('road', 'pole'), num_frames=1), r'loads 1 frames .* takes 3 \(history\)'),
        (Frames(('road', 'pole'), [PointsRangeFilter([0, -9, -3, 40, 9, 1])], num_frames=3), 'but area has .*40, 20'),
    ):
        with pytest.raises(InputError, match=message):
            check_runner(_runner(model, train=[data]))
    stated.entries_per_class['widths'] = 3
    with pytest.raises(InputError, match='widths has 3 entries, but .* 2 classes'):
        check_runner(_runner(model, train=[Frames(('road', 'pole'), **right)]))


def test_heads_that_count_other_than_classes_are_not_refused(models):
    data = Frames(KITTI)
    check_runner(_runner(SimpleNamespace(rpn_head=SimpleNamespace(num_classes=1), roi_head=None), train=[data]))
    flat = SimpleNamespace(bbox_head=SimpleNamespace(num_classes=3, use_sigmoid_cls=False))
    check_runner(_runner(flat, train=[data]))
    with_background = load_config(CONFIGS / 'point_pillars/point_pillars_tiny_10e_kitti_sim.py').model
    with_background.bbox_head.loss_cls = dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False)
    with_background.train_cfg.sampler = dict(type='mmdet.PseudoSampler')
    built = MODELS.build(with_background)
    assert built.bbox_head.num_classes == 4
    check_runner(_runner(built, train=[data]))


@pytest.mark.parametrize(
    ('dataset', 'names', 'metric'),
    [
        (KittiFrameDataset, ('training/label_2', 'ImageSets'), KittiFrameMetric),
        (PointBoxDataset, ('labels', 'points'), LidarDetectionMetric),
        (MultiFrameNuScenesDataset, ('samples/CAM_FRONT', 'v1.0-mini'), None),
    ],
)
def test_results_are_not_written_where_the_data_set_reads(dataset: type, names: tuple, metric: type, tmp_path: Path):
    frames = Frames(KITTI, data_root=str(tmp_path), own_entries=dataset.own_entries)
    (tmp_path / 'perception3d_infos_val.pkl').touch()
    model = SimpleNamespace()
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        hook = SimpleNamespace(out_dir=tmp_path / name / 'pictures')
        with pytest.raises(InputError, match=f'{name}/pictures lies in .*, which the data set reads'):
            check_runner(SimpleNamespace(**vars(_runner(model, test=[frames])), hooks=[hook]))
        settings = {} if metric is LidarDetectionMetric else dict(format_only=True)
        if metric is not None:
            with pytest.raises(InputError, match=f'{name} lies in'):
                check_runner(_runner(model, test=[frames, metric(format_dir=str(tmp_path / name), **settings)]))
            check_runner(_runner(model, test=[frames, metric(format_dir=str(tmp_path / 'results'), **settings)]))
    with pytest.raises(InputError, match='infos_val.pkl lies in'):
        check_data_is_kept([tmp_path / 'perception3d_infos_val.pkl'], [frames])
    check_data_is_kept([None, 's3://bucket/labels', tmp_path / 'metrics.json', tmp_path.parent / names[0]], [frames])


def test_a_link_to_the_labels_and_another_label_folder_are_kept_too(tmp_path: Path):
    (tmp_path / 'root' / 'labels').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'root' / 'labels')
    frames = Frames(KITTI, data_root=str(tmp_path / 'root'), own_entries=PointBoxDataset.own_entries)
    with pytest.raises(InputError, match='link lies in'):
        check_data_is_kept([tmp_path / 'link'], [frames])
    with pytest.raises(InputError, match='is the folder of the labels, which results would overwrite'):
        KittiFrameMetric(gt_dir=str(tmp_path / 'root'), format_dir=str(tmp_path / 'root' / 'labels' / '..'))
