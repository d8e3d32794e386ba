"""Test-time augmentation of segmentation: its views, the average of probabilities, tests and inference with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import Pack3DDetInputs
from mmdet3d.structures.points import LiDARPoints
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from seg_parts import CLASSES, batch, cloud, labels, partition
from semantickitti_tree import write_tree
from torch import nn

from perception3d.apis.inferencer import Inferencer
from perception3d.apis.testing import test as run_test
from perception3d.checks import InputError
from perception3d.datasets.transforms.point_views import PointViews
from perception3d.distill.distiller import Distiller
from perception3d.formats.semantickitti.info import create_infos
from perception3d.geometry.augmentation import aug_from_lidar
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.segmentor import PointSegmentor, SegOutputs
from perception3d.models.lidar_seg.tta import PointSegTTAModel
from perception3d.registry import MODELS

PACK = [Pack3DDetInputs(keys=['points', 'pts_semantic_mask'], meta_keys=('transformation_3d_flow',))]


@MODELS.register_module()
class ByColumn(nn.Module):
    """Logits of a point that nothing turns: its intensity; `x_weight` adds what a view changes."""

    def __init__(self, num_classes=CLASSES, x_weight=0.0):
        super().__init__()
        self.num_classes, self.x_weight = num_classes, x_weight
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, voxels):
        steps = torch.arange(self.num_classes) / self.num_classes
        distance = (voxels.features[:, 8:9] - steps).abs()
        return SegOutputs(point_logits=-20 * distance + self.x_weight * voxels.features[:, 6:7] * steps)


def _model(**settings):
    return PointSegmentor(
        net=dict(type=ByColumn, **settings), losses={}, predict_from='point',
        data_preprocessor=dict(type=PointSegPreprocessor, partition=partition()),
    )  # fmt: skip


def _sample(seed=0):
    values = dict(points=LiDARPoints(cloud(seed=seed), points_dim=4), pts_semantic_mask=labels(seed=seed).numpy())
    return {**values, 'eval_ann_info': {'pts_semantic_mask': values['pts_semantic_mask']}}


def _merged(model, views, samples):
    with torch.no_grad():
        return PointSegTTAModel(model).eval().test_step(pseudo_collate([views(sample) for sample in samples]))


def test_a_view_is_made_from_the_stored_cloud_alone():
    views, sample = PointViews(PACK), _sample()
    stored = sample['points'].tensor.clone()
    np.random.seed(1)
    packed = views(sample)
    assert len(packed['inputs']) == 36 and torch.equal(sample['points'].tensor, stored)
    assert torch.equal(packed['inputs'][0]['points'], stored)
    states = set()
    for (flip, yaw_rad, scale), inputs in zip(views.views, packed['inputs']):
        mirror = np.diag([-1.0 if 'x' in flip else 1.0, -1.0 if 'y' in flip else 1.0, 1.0])
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        moved = stored[:, :3].double().numpy() @ (scale * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ mirror).T
        np.testing.assert_allclose(inputs['points'][:, :3], moved, atol=1e-4)
        assert torch.equal(inputs['points'][:, 3], stored[:, 3])
        states.add((flip, yaw_rad, scale))
    assert len(states) == 36
    # Labels of the metric come once, and the state of numpy changes nothing.
    assert [item.eval_ann_info is not None for item in packed['data_samples']] == [True] + [False] * 35
    again = views(_sample())
    assert all(torch.equal(a['points'], b['points']) for a, b in zip(packed['inputs'], again['inputs']))


def test_the_steps_of_a_view_are_in_its_meta_data():
    keys = ('transformation_3d_flow', 'pcd_rotation_angle', 'pcd_scale_factor')
    packed = PointViews([Pack3DDetInputs(keys=['points'], meta_keys=keys)])(_sample())
    stored = cloud()[:, :3].double().numpy()
    for inputs, sample in zip(packed['inputs'], packed['data_samples']):
        matrix = aug_from_lidar(sample.metainfo)
        np.testing.assert_allclose(inputs['points'][:, :3], stored @ matrix[:3, :3].T, atol=1e-4)


def test_some_views_are_drawn_by_the_seed():
    drawn = [PointViews(PACK, num_views=7, seed=seed).views for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and all(len(set(views)) == 7 for views in drawn)
    assert {views[0] for views in drawn} == {('none', 0.0, 1.0)} and set(drawn[0]) <= set(PointViews(PACK).views)
    with pytest.raises(InputError, match='num_views is 37: expected 1 to 36'):
        PointViews(PACK, num_views=37)
    with pytest.raises(InputError, match='diagonal'):
        PointViews(PACK, flips=['diagonal'])


def test_a_network_that_nothing_turns_gives_the_same_labels():
    model = _model()
    merged = _merged(model, PointViews(PACK), [_sample(0), _sample(1)])
    model.keep_logits = False
    with torch.no_grad():
        plain = model.test_step(batch((300, 300), labelled=False))
    for one, other in zip(merged, plain, strict=True):
        assert torch.equal(one.pred_pts_seg.pts_semantic_mask, other.pred_pts_seg.pts_semantic_mask)
        assert len(one.pred_pts_seg.pts_semantic_mask.unique()) == CLASSES
        assert 'pts_seg_logits' not in one and 'pts_seg_logits' not in other
        assert one.metainfo['transformation_3d_flow'] == [] and 'pts_semantic_mask' in one.eval_ann_info


@pytest.mark.parametrize('distilled', [False, True])
def test_probabilities_are_averaged_whatever_the_order_of_views(distilled):
    views, sample = PointViews(PACK, num_views=6), _sample()
    model = _model(x_weight=3.0)
    expected = torch.zeros(300, CLASSES)
    for inputs in views(_sample())['inputs']:
        with torch.no_grad():
            data = model.data_preprocessor({'inputs': pseudo_collate([inputs]), 'data_samples': None})
            expected += model(**data, mode='tensor').point_logits.softmax(1) / 6
    settings = {} if not distilled else dict(links={})
    tested = Distiller(model, **settings) if distilled else model
    (merged,) = _merged(tested, views, [sample])
    assert torch.equal(merged.pred_pts_seg.pts_semantic_mask, expected.argmax(1))
    views.views = views.views[::-1]
    (other,) = _merged(tested, views, [sample])
    assert torch.equal(other.pred_pts_seg.pts_semantic_mask, expected.argmax(1))
    # The view decides: not all of them agree with the average.
    with torch.no_grad():
        plain = model.test_step({'inputs': {'points': [cloud()]}, 'data_samples': None})[0]
    assert not torch.equal(plain.pred_pts_seg.pts_semantic_mask, expected.argmax(1))


def test_a_model_without_logits_is_refused():
    with pytest.raises(InputError, match='Linear has no attribute keep_logits'):
        model = nn.Linear(1, 1)
        model.test_step = lambda data: data
        PointSegTTAModel(model)


CONFIG = """
from mmdet3d.datasets.transforms import Pack3DDetInputs
from mmengine.dataset import DefaultSampler
from mmengine.runner import TestLoop
from perception3d.datasets.point_label_dataset import POINT_META_KEYS
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.datasets.transforms.point_views import PointViews
from perception3d.formats.semantickitti.dataset import SemanticKittiDataset
from perception3d.formats.semantickitti.evaluation.metric import SemanticKittiMetric
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.tta import PointSegTTAModel
from perception3d.models.lidar_seg.voxels import CylinderPartition
from test_seg_tta import ByColumn

default_scope = 'mmdet3d'
model = dict(
    type=PointSegmentor, net=dict(type=ByColumn, num_classes=19, x_weight=0.3), losses=dict(), predict_from='point',
    data_preprocessor=dict(type=PointSegPreprocessor, partition=dict(type=CylinderPartition, grid_shape=(20, 18, 8))))
load = [dict(type=LoadCheckedPoints), dict(type=LoadPointLabels)]
pack = dict(type=Pack3DDetInputs, keys=['points'], meta_keys=POINT_META_KEYS)
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=SemanticKittiDataset, data_root={root!r}, ann_file='perception3d_infos_val.pkl', test_mode=True,
                 pipeline=[*load, pack]))
test_evaluator = dict(type=SemanticKittiMetric)
test_cfg = dict(type=TestLoop)
tta_model = dict(type=PointSegTTAModel)
tta_pipeline = [*load, dict(type=PointViews, num_views=4, pack=[pack])]
"""


def test_a_test_and_inference_use_the_views_of_the_config(tmp_path):
    write_tree(tmp_path, {'08': 3})
    create_infos(tmp_path, jobs=1, progress=False)
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(tmp_path)))
    config = Config.fromfile(tmp_path / 'config.py')
    weights = tmp_path / 'weights.pth'
    torch.save({'state_dict': MODELS.build(config.model).state_dict(), 'meta': {}}, weights)
    out = tmp_path / 'out'
    run_test(config, weights, work_dir=str(tmp_path / 'w'), tta=True, format_only=str(out))
    found = np.fromfile(out / 'sequences' / '08' / 'predictions' / '000001.label', '<u4')
    plain, averaged = (
        Inferencer(Config.fromfile(tmp_path / 'config.py'), weights, device='cpu', tta=tta) for tta in (False, True)
    )
    scan = tmp_path / 'sequences' / '08' / 'velodyne' / '000001.bin'
    picture, _, result = averaged.write(scan, tmp_path / 'inferred')
    assert picture.is_file() and np.array_equal(np.fromfile(result, '<u4'), found) and len(found) == 61
    (one,), (other,) = (
        [sample.pred_pts_seg.pts_semantic_mask for sample in inferencer(scan)] for inferencer in (plain, averaged)
    )
    assert len(one) == len(other) == 61 and not torch.equal(one, other)
