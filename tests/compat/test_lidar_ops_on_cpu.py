"""mmcv's ops and mmdet3d's modules on CPU tensors, by our kernels behind mmcv's interface."""

from __future__ import annotations

import mmcv.ops
import pytest
import torch
from mmcv import _ext
from mmcv_references import VOXEL_LAYERS, load
from mmdet3d.models.layers import box3d_multiclass_nms, nms_bev, nms_normal_bev
from mmdet3d.structures import LiDARInstance3DBoxes, xywhr2xyxyr
from mmengine import ConfigDict

from perception3d.compat import lidar_ops_on_cpu
from perception3d.compat.mmcv_on_cpu import LIDAR_OPS
from perception3d.registry import MODELS


@pytest.fixture(autouse=True)
def _installed():
    lidar_ops_on_cpu.install()


def _points(number=256, clouds=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(clouds, number, 3, generator=generator) * torch.tensor([20.0, 20, 3]) - torch.tensor([0, 10.0, 2])


def _boxes(number=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor([0.0, -10, -2, 1, 1, 1, -3]), torch.tensor([20.0, 10, 0, 5, 3, 2, 3])
    return low + torch.rand(number, 7, generator=generator) * (high - low)


def test_installing_twice_changes_nothing():
    def state():
        functions = mmcv.ops.voxelization.__self__, mmcv.ops.furthest_point_sample.__self__
        return [mmcv.ops.nms_rotated.__globals__['ext_module'], *(function.forward for function in functions)]

    before = state()
    lidar_ops_on_cpu.install()
    assert state() == before and before[0].compiled is _ext


def test_every_listed_function_exists_in_mmcv_and_all_others_pass_through():
    # Without compiled ops mmcv's module is a replacement, which answers for every name; see tests/compat.
    assert all(hasattr(_ext, name) for name in LIDAR_OPS)
    stand_in = mmcv.ops.nms_rotated.__globals__['ext_module']
    assert stand_in.softnms is _ext.softnms
    with pytest.raises(AttributeError):
        _ = stand_in.__path__


def test_tensors_of_other_devices_go_to_the_compiled_module():
    class Compiled:
        @staticmethod
        def knn_forward(first, *args):
            return 'compiled', first.device.type, args

    stand_in = lidar_ops_on_cpu._ByDevice(Compiled())
    assert stand_in.knn_forward(torch.zeros(1, device='meta'), 3) == ('compiled', 'meta', (3,))


def test_neighbour_ops_keep_the_shapes_and_units_of_mmcv():
    points, features = _points(300, 2), torch.randn(2, 4, 300, requires_grad=True)
    picks = mmcv.ops.furthest_point_sample(points, 32)
    assert picks.dtype == torch.int32 and picks.shape == (2, 32) and not picks[:, 0].any()
    squared = (points[:, :, None] - points[:, None]).square().sum(-1)
    assert mmcv.ops.furthest_point_sample_with_dist(squared, 32).shape == (2, 32)
    centers = mmcv.ops.gather_points(points.transpose(1, 2).contiguous(), picks).transpose(1, 2).contiguous()
    assert torch.equal(centers[0, 3], points[0, picks[0, 3]])
    distance, indices = mmcv.ops.three_nn(points, centers)
    wanted, order = torch.cdist(points, centers, compute_mode='donot_use_mm_for_euclid_dist').sort()
    assert torch.allclose(distance, wanted[..., :3], atol=1e-4) and torch.equal(indices.long(), order[..., :3])
    assert torch.equal(mmcv.ops.knn(3, centers, points).transpose(1, 2), indices)
    ball = mmcv.ops.ball_query(0, 2.0, 8, points, centers)
    assert ball.shape == (2, 32, 8) and (mmcv.ops.grouping_operation(features, ball)[..., 0].shape == (2, 4, 32))
    weights = torch.rand(2, 300, 3)
    interpolated = mmcv.ops.three_interpolate(mmcv.ops.gather_points(features, picks), indices, weights)
    (grad,) = torch.autograd.grad(interpolated.sum() + mmcv.ops.grouping_operation(features, ball).sum(), features)
    wanted = torch.zeros(2, 300).scatter_add_(1, ball.flatten(1).long(), torch.ones(2, 256))
    weight_of_pick = torch.zeros(2, 32).scatter_add_(1, indices.flatten(1).long(), weights.flatten(1))
    wanted.scatter_add_(1, picks.long(), weight_of_pick)
    assert torch.allclose(grad, wanted[:, None].expand_as(grad), atol=1e-4)


@pytest.mark.parametrize('reduction', ['max', 'avg'])
def test_roi_pooling_runs_through_mmcvs_modules(reduction):
    points, boxes = _points(400)[0], _boxes(6)
    features = torch.randn(400, 3, requires_grad=True)
    pooled = mmcv.ops.RoIAwarePool3d((4, 2, 2), 16, reduction)(boxes, points, features)
    pooled.sum().backward()
    assert pooled.shape == (6, 4, 2, 2, 3) and features.grad.abs().sum() > 0
    inside = mmcv.ops.points_in_boxes_all(points[None], boxes[None])[0]
    assert not features.grad[~inside.any(1)].any()
    pooled, empty = mmcv.ops.RoIPointPool3d(16)(points[None], features[None], boxes[None])
    assert pooled.shape == (1, 6, 16, 6) and torch.equal(empty[0].bool(), ~inside.bool().any(0))


def test_boxes_of_mmdet3d_find_their_points():
    points, boxes = _points(2000)[0], LiDARInstance3DBoxes(_boxes(9))
    marked = boxes.points_in_boxes_all(points)
    expected = mmcv.ops.points_in_boxes_cpu(points[None], boxes.tensor[None])[0]
    assert torch.equal(marked, expected) and marked.sum() > 10
    assert torch.equal(boxes.points_in_boxes_part(points) >= 0, marked.any(1))


@pytest.mark.parametrize('name', ['overlaps_near', 'overlaps_far'])
def test_rotated_iou_is_that_of_mmcv(name):
    stored = load(name)
    first, second = stored['first'], stored['second']
    for mode in ('iou', 'iof'):
        ours = mmcv.ops.box_iou_rotated(first, second, mode)
        assert ours.max() > 0.05 and torch.allclose(ours, stored[mode], atol=2e-5)
        ours = mmcv.ops.box_iou_rotated(first[:20], second, mode, aligned=True)
        assert torch.allclose(ours, stored[f'aligned_{mode}'], atol=2e-5)
    mirror = torch.tensor([1, 1, 1, 1, -1])
    clockwise = mmcv.ops.box_iou_rotated(first * mirror, second * mirror)
    assert torch.equal(mmcv.ops.box_iou_rotated(first, second, clockwise=False), clockwise)
    assert mmcv.ops.box_iou_rotated(first[:0], second).shape == (0, 20)


def test_boxes_overlap_is_area_in_square_metres():
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0], [1, 0, 5, 4, 2, 1, torch.pi]])
    assert torch.allclose(mmcv.ops.boxes_overlap_bev(boxes, boxes), torch.tensor([[8.0, 6], [6, 8]]), atol=1e-5)
    assert torch.allclose(mmcv.ops.boxes_iou3d(boxes, boxes), torch.eye(2), atol=1e-5)


def _greedy(iou, scores, threshold, labels=None):
    kept = []
    for k in scores.argsort(descending=True).tolist():
        if all(iou[k, j] <= threshold or (labels is not None and labels[k] != labels[j]) for j in kept):
            kept.append(k)
    return kept


def test_suppression_is_greedy_above_the_threshold_and_heeds_labels():
    stored = load('suppression')
    boxes, scores, iou = stored['boxes'], stored['scores'], stored['iou']
    bev = boxes[:, [0, 1, 3, 4, 6]].contiguous()
    labels = torch.arange(50) % 3 * 7 - 7
    kept = _greedy(iou, scores, 0.1)
    # What mmcv's own CPU kernel keeps, where no IoU lies at the threshold and there are no labels.
    assert 5 < len(kept) < 45 and stored['kept_0.1'].tolist() == kept
    assert mmcv.ops.nms_rotated(bev, scores, 0.1)[1].tolist() == kept
    assert mmcv.ops.nms_rotated(bev, scores, 0.1, labels)[1].tolist() == _greedy(iou, scores, 0.1, labels)
    assert mmcv.ops.nms3d(boxes, scores, 0.1).tolist() == kept
    straight = _greedy(stored['straight_iou'], scores, 0.1)
    assert straight != kept and mmcv.ops.nms3d_normal(boxes, scores, 0.1).tolist() == straight


def test_a_box_at_the_threshold_stays():
    bev = torch.tensor([[0.0, 0, 2, 2, 0], [1, 0, 2, 2, 0]])
    scores = torch.tensor([0.9, 0.8])
    assert len(mmcv.ops.nms_rotated(bev, scores, 1 / 3 + 1e-6)[1]) == 2
    assert len(mmcv.ops.nms_rotated(bev, scores, 1 / 3 - 1e-6)[1]) == 1
    assert mmcv.ops.nms_rotated(bev, scores, 0.25)[0].shape == (1, 6)


def test_bird_eye_suppression_of_mmdet3d_runs():
    boxes, scores = _boxes(50, 4), torch.rand(50, 3)
    for_nms = xywhr2xyxyr(LiDARInstance3DBoxes(boxes).bev)
    kept = nms_bev(for_nms, scores[:, 0], 0.2, pre_max_size=40, post_max_size=8)
    assert 0 < len(kept) <= 8 and len(nms_normal_bev(for_nms, scores[:, 0], 0.2)) > 0
    for rotated in (True, False):
        results = box3d_multiclass_nms(
            boxes, for_nms, scores, 0.3, 20, ConfigDict(use_rotate_nms=rotated, nms_thr=0.2), scores[:, 0]
        )
        assert [len(part) for part in results] == [len(results[0])] * 4 and 0 < len(results[0]) <= 20


@pytest.mark.parametrize('layer', ['mmcv', 'mmdet3d'])
@pytest.mark.parametrize('k', range(len(VOXEL_LAYERS)))
def test_voxel_layers_give_what_the_compiled_kernel_gives(layer, k):
    from mmcv.ops import Voxelization
    from mmdet3d.models.data_preprocessors.voxelize import VoxelizationByGridShape

    stored, (size, span, max_points, max_voxels) = load('voxels'), VOXEL_LAYERS[k]
    layer_class = Voxelization if layer == 'mmcv' else VoxelizationByGridShape
    keywords = {'voxel_size': size, 'point_cloud_range': span}
    limits = {'max_num_points': max_points, 'max_voxels': (max_voxels, max_voxels + 9)}
    results = layer_class(**keywords, **limits, deterministic=False)(stored['points'])
    assert all(torch.equal(a, stored[f'{b}_{k}']) for a, b in zip(results, ('voxels', 'coords', 'count'), strict=True))
    dynamic = layer_class(**keywords, max_num_points=-1, max_voxels=-1)
    assert torch.equal(dynamic(stored['points']), stored[f'cells_{k}'])
    # Points whose cells are the same in float64.
    points = torch.rand(500, 4, generator=torch.Generator().manual_seed(1)) * 30
    assert torch.equal(dynamic(points), dynamic(points.double())) and (dynamic(points) >= 0).any()


@pytest.mark.parametrize('encoder', ['DynamicVFE', 'DynamicPillarFeatureNet'])
def test_dynamic_encoders_learn(encoder):
    torch.manual_seed(0)
    keywords = {'in_channels': 4, 'voxel_size': (1, 1, 3), 'point_cloud_range': (0, -10, -2, 20, 10, 1)}
    model = MODELS.build({'type': encoder, 'feat_channels': [8, 8], **keywords})
    points = torch.cat([_points(500)[0], torch.rand(500, 1)], 1)
    cells = torch.cat([torch.arange(500)[:, None] // 250, mmcv.ops.Voxelization(
        keywords['voxel_size'], keywords['point_cloud_range'], -1, -1)(points)], 1)  # fmt: skip
    features, coords = model(points, cells)
    assert len(features) == len(coords) == len(torch.unique(cells, dim=0))
    features.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert sum(p.grad.abs().sum() for p in model.parameters()) > 0


def test_dynamic_scatter_is_ordered_by_cell_and_drops_negative_ones():
    cells = torch.tensor([[0, 1, 0], [0, 0, 3], [-1, -1, -1], [0, 1, 0]], dtype=torch.int32)
    features = torch.tensor([[1.0], [2], [9], [5]])
    for average, wanted in ((True, [[2.0], [3]]), (False, [[2.0], [5]])):
        values, coords = mmcv.ops.DynamicScatter([1, 1, 1], [0, 0, 0, 9, 9, 9], average)(features, cells)
        assert values.tolist() == wanted and coords.tolist() == [[0, 0, 3], [0, 1, 0]]


def test_the_point_network_of_point_rcnn_learns():
    torch.manual_seed(0)
    backbone = MODELS.build(
        {
            'type': 'PointNet2SAMSG', 'in_channels': 4, 'num_points': (64, 16), 'radii': ((1.0, 2.0), (2.0, 4.0)),
            'num_samples': ((8, 16), (8, 16)), 'sa_channels': (((8, 8), (8, 8)), ((16, 16), (16, 16))),
            'aggregation_channels': (None, None), 'fps_mods': ('D-FPS', 'D-FPS'), 'fps_sample_range_lists': (-1, -1),
            'dilated_group': (False, False), 'out_indices': (0, 1),
            'sa_cfg': {'type': 'PointSAModuleMSG', 'pool_mod': 'max', 'use_xyz': True, 'normalize_xyz': False},
        }
    )  # fmt: skip
    neck = MODELS.build({'type': 'PointNetFPNeck', 'fp_channels': ((48, 16), (17, 8))})
    points = torch.cat([_points(256, 2), torch.rand(2, 256, 1)], 2)
    features = neck(backbone(points))['fp_features']
    assert features.shape == (2, 8, 256)
    features.square().mean().backward()
    assert all(p.grad is not None for p in [*backbone.parameters(), *neck.parameters()])
    assert sum(p.grad.abs().sum() for p in backbone.parameters()) > 0
