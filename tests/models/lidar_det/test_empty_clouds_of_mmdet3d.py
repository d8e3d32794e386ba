"""Voxel detectors of mmdet3d without a config here: a batch has as many maps as clouds, whatever is in range."""

from __future__ import annotations

import pytest
import torch
from mmdet3d.models.detectors import SASSD, DynamicMVXFasterRCNN, MVXFasterRCNN, PartA2, PointVoxelRCNN
from mmdet3d.models.middle_encoders import PointPillarsScatter
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import nn

from perception3d.registry import MODELS

SPAN, SIZE, PILLAR = [0, -1.6, -3, 3.2, 1.6, 1], [0.05, 0.05, 0.1], [0.05, 0.05, 4]
SPARSE = dict(in_channels=4, sparse_shape=[41, 64, 64], order=('conv', 'norm', 'act'))
MIDDLE = {
    PartA2: dict(SPARSE, type='SparseUNet'),
    PointVoxelRCNN: dict(SPARSE, type='SparseEncoder', return_middle_feats=True),
    SASSD: dict(SPARSE, type='SparseEncoderSASSD'),
}
BACKBONE = dict(type='SECOND', layer_nums=[1], layer_strides=[1], out_channels=[8])


def _clouds(order):
    inside = torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.2, 3.2, 4, 1])
    inside -= torch.tensor([0, 1.6, 3, 0])
    of = {'A': inside, 'x': torch.full((5, 4), -500.0), '0': torch.zeros(0, 4), 'p': inside[:1]}
    return [of[letter].clone() for letter in order]


def _inputs(order, dynamic=False, size=SIZE):
    limits = dict(max_num_points=-1, max_voxels=(-1, -1)) if dynamic else dict(max_num_points=5, max_voxels=(999, 999))
    preprocessor = MODELS.build(
        dict(
            type='Det3DDataPreprocessor', voxel=True, voxel_type='dynamic' if dynamic else 'hard',
            voxel_layer=dict(point_cloud_range=SPAN, voxel_size=size, **limits),
        )
    )  # fmt: skip
    samples = [Det3DDataSample() for _ in order]
    return preprocessor(dict(inputs=dict(points=_clouds(order)), data_samples=samples))['inputs']


def _second_stage(kind, **parts):
    """The detector as far as `extract_feat`: its second stage needs ops of CUDA."""
    model = kind.__new__(kind)
    nn.Module.__init__(model)
    for name, part in parts.items():
        setattr(model, name, MODELS.build(part))
    return model.eval()


@pytest.mark.parametrize('kind', MIDDLE)
def test_features_have_a_map_for_every_cloud(kind):
    pytest.importorskip('spconv')
    torch.manual_seed(0)
    model = _second_stage(
        kind, voxel_encoder=dict(type='HardSimpleVFE'), middle_encoder=MIDDLE[kind],
        backbone=dict(BACKBONE, in_channels=256),
    )  # fmt: skip

    def found(order):
        with torch.no_grad():
            features = model.extract_feat(_inputs(order))
        if kind is SASSD:
            return features[0]
        return features['spatial_features' if kind is PartA2 else 'spatial_feats']

    alone = found('A')
    assert alone.abs().max() > 0
    for order in ('x', '0', 'Ax', 'A0', 'xA', 'xAx'):
        maps = found(order)
        assert len(maps) == len(order)
        for letter, own in zip(order, maps, strict=True):
            if letter == 'A':
                torch.testing.assert_close(own, alone[0], atol=1e-5, rtol=1e-4)
            else:
                assert kind is SASSD or own.abs().max() == 0


@pytest.mark.parametrize('kind', MIDDLE)
def test_clouds_out_of_range_have_no_boxes(kind, monkeypatch):
    inputs = _inputs('Ax')
    samples = [Det3DDataSample(), Det3DDataSample()]
    for sample in samples:
        sample.pred_instances_3d = InstanceData(scores_3d=torch.ones(2))
    model = kind.__new__(kind)
    nn.Module.__init__(model)
    # What the network would answer: two boxes for each map.
    monkeypatch.setattr(kind, 'extract_feat', lambda self, inputs: {}, raising=True)
    for name in ('rpn_head', 'roi_head', 'bbox_head', 'points_encoder'):
        object.__setattr__(model, name, _Answers())
    monkeypatch.setattr(kind, 'add_pred_to_datasample', lambda self, *results: samples)
    assert [len(sample.pred_instances_3d) for sample in model.predict(inputs, samples)] == [2, 0]


class _Answers:
    def predict(self, *inputs, **settings):
        return []

    def __call__(self, *inputs):
        return {}


def test_key_points_of_every_cloud(monkeypatch):
    # mmcv has no such op for a CPU.
    first = 'mmdet3d.models.middle_encoders.voxel_set_abstraction.furthest_point_sample'
    monkeypatch.setattr(first, lambda points, count: torch.arange(count).clamp(max=points.shape[1] - 1)[None].int())
    encoder = MODELS.build(
        dict(
            type='VoxelSetAbstraction', num_keypoints=8, voxel_size=SIZE, point_cloud_range=SPAN,
            voxel_center_as_source=True, norm_cfg=dict(type='BN2d'),
        )
    )  # fmt: skip
    for from_voxels in (True, False):
        encoder.voxel_center_as_source = from_voxels
        for order in ('A', '0', 'A0', '0A0'):
            inputs = _inputs(order)
            points = encoder.sample_key_points(inputs['points'], inputs['voxels']['coors'])
            assert points.shape == (len(order), 8, 3)
            for letter, own in zip(order, points, strict=True):
                assert len(own.unique(dim=0)) == (8 if letter == 'A' else 1)
                if letter == '0':
                    assert own[0].tolist() == pytest.approx([1.6, 0, -1])


@pytest.mark.parametrize('kind', [MVXFasterRCNN, DynamicMVXFasterRCNN])
def test_images_are_fused_in_every_cloud(kind):
    torch.manual_seed(0)
    dynamic = kind is DynamicMVXFasterRCNN
    fusion = dict(
        type='PointFusion', img_channels=4, pts_channels=8, mid_channels=8, out_channels=8, img_levels=[0],
        align_corners=False, fuse_out=False, lateral_conv=False,
    )  # fmt: skip
    encoder = dict(
        type='DynamicVFE' if dynamic else 'HardVFE', in_channels=4, feat_channels=[8], voxel_size=PILLAR,
        with_cluster_center=True, with_voxel_center=True, point_cloud_range=SPAN, fusion_layer=fusion,
    )  # fmt: skip
    model = _second_stage(kind)
    model.pts_voxel_encoder, model.pts_bbox_head = MODELS.build(encoder), nn.Identity()
    model.pts_middle_encoder, model.pts_backbone = PointPillarsScatter(8, [64, 64]), nn.Identity()
    matrix = torch.tensor([[0, -10.0, 0, 8], [0, 0, -10, 8], [1, 0, 0, 1], [0, 0, 0, 1]]).numpy()
    meta = dict(
        lidar2img=matrix, img_shape=(16, 16), input_shape=(16, 16), box_type_3d=LiDARInstance3DBoxes,
        pcd_trans=[0.0, 0, 0],
    )  # fmt: skip
    model.eval()

    def found(order):
        inputs = _inputs(order, dynamic, PILLAR)
        images = [torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).repeat(len(order), 1, 1, 1)]
        with torch.no_grad():
            return model.extract_pts_feat(inputs['voxels'], inputs['points'], images, [meta] * len(order))

    alone = found('A')
    assert alone.abs().max() > 0
    assert found('Ap').shape == (2, *alone.shape[1:])
    for order in ('x', '0', 'Ax', 'A0', 'xA'):
        maps = found(order)
        assert len(maps) == len(order)
        for letter, own in zip(order, maps, strict=True):
            torch.testing.assert_close(own, alone[0] if letter == 'A' else 0 * alone[0], atol=1e-5, rtol=1e-4)
