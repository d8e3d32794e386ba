"""The range image of points and RangePointNet: projection, nearest points, all points scored, training."""

from __future__ import annotations

import copy

import pytest
import torch

from perception3d.checks import InputError
from perception3d.export.onnx_file import write_onnx
from perception3d.geometry.range_image import RangeImage
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.lidar_seg.losses import WeightedCrossEntropy
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.range_blocks import ConvSENeXt, PixelsOfPoints
from perception3d.models.lidar_seg.range_partition import RangePartition, distances, nearest_points
from perception3d.models.lidar_seg.range_point import RangePointNet
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.voxels import voxelise
from perception3d.structures.export_spec import export_spec
from tests.models.lidar_seg.seg_parts import CLASSES, batch, cloud, segmentor

SHAPE = (8, 32)


def range_partition(**settings):
    return RangePartition(**{'shape': SHAPE, 'up_deg': 30, 'down_deg': -60} | settings)


def small_net(**settings):
    torch.manual_seed(0)
    small = dict(point_channels=16, image_channels=8, stem_channels=8, widths=(8, 16), blocks=(1, 2))
    small |= dict(strides=((1, 2), (2, 2)), kernel=3, fused_channels=12)
    return RangePointNet(CLASSES, **small | settings)


def range_segmentor(**partition):
    config = dict(type=RangePartition, shape=SHAPE, up_deg=30, down_deg=-60) | partition
    small = dict(widths=(8, 16), strides=((1, 2), (2, 2)), blocks=(1, 1), point_channels=16, stem_channels=8)
    torch.manual_seed(0)
    return PointSegmentor(
        data_preprocessor=dict(type=PointSegPreprocessor, partition=config),
        net=dict(type=RangePointNet, num_classes=CLASSES, kernel=3, **small),
        losses=dict(
            point_ce=dict(type=WeightedCrossEntropy, of='point'),
            pixel_ce=dict(type=WeightedCrossEntropy, of='voxel', weight=0.5),
        ),
        predict_from='point',
    )


def test_pixels_by_angles():
    image = RangeImage((4, 8), 10, -30)
    ahead, left, right = [5.0, 0.1, 0.0], [0.0, 5.0, 0.0], [0.0, -5.0, 0.0]
    behind_left, behind_right = [-5.0, 0.1, 0.0], [-5.0, -0.1, 0.0]
    low, high, lowest = [5.0, 0.1, -1.5], [5.0, 0.1, 3.0], [0.01, 0.01, -5.0]
    points = torch.tensor([ahead, left, right, behind_left, behind_right, low, high, lowest])
    expected = [[1, 3], [1, 2], [1, 6], [1, 0], [1, 7], [2, 3], [0, 3], [3, 3]]
    assert image.pixels(points)[:, 0].tolist() == [row for row, _ in expected]
    assert image.pixels(points)[[0, 2, 3, 4, 5], 1].tolist() == [3, 6, 0, 7, 3]
    assert image.contains(points).tolist() == [True] * 6 + [False] * 2
    turned = RangeImage((4, 8), 10, -30, forward=(0.0, 1.0))
    assert turned.pixels(torch.tensor([[-0.1, 5.0, 0.0], [5.0, -0.1, 0.0]]))[:, 1].tolist() == [3, 6]


@pytest.mark.parametrize('settings', [dict(shape=(0, 8)), dict(shape=(4, 8), up_deg=-30.0)])
def test_an_image_without_pixels_is_refused(settings):
    with pytest.raises(InputError, match='range image needs|holds nothing'):
        RangeImage(**settings)


def test_every_point_has_one_pixel_and_the_nearest_wins():
    clouds = [cloud(300), cloud(200, seed=1)]
    voxels = voxelise(range_partition(), clouds)
    assert voxels.grid_shape == (*SHAPE, 1)
    points = torch.cat(clouds)
    expected = range_partition().image.pixels(points)
    assert torch.equal(voxels.coords[voxels.point_to_voxel, 1:3].long(), expected)
    assert torch.equal(voxels.coords[voxels.point_to_voxel, 0].long(), voxels.point_batch)
    distance = distances(points)
    nearest = nearest_points(distance, voxels.point_to_voxel, len(voxels.coords) + 1)
    assert nearest[-1] == -1
    for pixel, (point, reach) in enumerate(zip(nearest[:-1].tolist(), voxels.outer_distance_m.tolist())):
        own = torch.nonzero(voxels.point_to_voxel == pixel)[:, 0]
        assert point == own[distance[own].argmin()]
        assert reach == pytest.approx(points[own, :2].norm(dim=1).max().item())


def test_coarser_pixels_hold_the_nearest_of_their_block():
    points, size = cloud(300), (2, 7, 9)
    pixels = torch.randint(0, 2 * 7 * 9, (300,), generator=torch.Generator().manual_seed(0))
    distance = distances(points)
    index = PixelsOfPoints.of(pixels, nearest_points(distance, pixels, 126), distance, size).coarser((2, 4))
    assert index.size == (2, 4, 3)
    sample, row, column = pixels // 63, pixels % 63 // 9, pixels % 9
    assert torch.equal(index.pixels, (sample * 4 + row // 2) * 3 + column // 4)
    assert torch.equal(index.nearest.flatten(), nearest_points(distance, index.pixels, 24))


def test_rows_by_ring():
    points = torch.cat([cloud(20), torch.arange(20)[:, None] % 8], 1)
    cells, _ = range_partition(ring_column=4).cells_of(points)
    assert cells[:, 0].tolist() == [7 - ring % 8 for ring in range(20)]
    with pytest.raises(InputError, match='rings 0 to 7, but the range image has 4 rows'):
        range_partition(ring_column=4, shape=(4, 8)).cells_of(points)
    with pytest.raises(InputError, match='reads column 4'):
        range_partition(ring_column=4).cells_of(cloud(5))


def test_permuted_points_have_permuted_predictions():
    net, order = small_net().eval(), torch.randperm(300, generator=torch.Generator().manual_seed(0))
    points = cloud(300)
    with torch.no_grad():
        straight = net(voxelise(range_partition(), [points]))
        permuted = net(voxelise(range_partition(), [points[order]]))
    torch.testing.assert_close(permuted.point_logits, straight.point_logits[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(permuted.voxel_logits, straight.voxel_logits, atol=1e-5, rtol=1e-4)


def test_samples_of_a_batch_do_not_mix():
    net = small_net().eval()
    with torch.no_grad():
        both = net(voxelise(range_partition(), [cloud(300), cloud(200, seed=1)]))
        second = net(voxelise(range_partition(), [cloud(200, seed=1)]))
    torch.testing.assert_close(both.point_logits[300:], second.point_logits, atol=1e-5, rtol=1e-4)


def test_points_of_one_pixel_are_told_apart():
    points = torch.tensor([[5.0, 0.1, 0.0, 0.5], [10.0, 0.2, 0.0, 0.1], [3.0, 2.0, 0.0, 0.2]])
    voxels = voxelise(range_partition(), [points])
    assert len(voxels.coords) == 2
    with torch.no_grad():
        logits = small_net().eval()(voxels).point_logits
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_gradients_reach_every_weight():
    net = small_net()
    outputs = net(voxelise(range_partition(), [cloud(300), cloud(200, seed=1)]))
    # Not a plain sum, to whose gradient a batch norm is blind.
    (outputs.point_logits.square().sum() + outputs.voxel_logits.square().sum()).backward()
    without = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_gradients_of_a_narrow_block_on_a_wide_map_are_those_of_torch_s_plain_layout():
    # With a strided 1 x 1 convolution oneDNN ended the process here.
    block, x = ConvSENeXt(8, 16, 7, (1, 2)), torch.randn(1, 8, 64, 512)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        block.zero_grad()
        block(x.to(memory_format=layout)).square().mean().backward()
        gradients.append([weight.grad.clone() for weight in block.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-3)


def test_points_outside_the_field_of_view_are_scored():
    points = cloud(50).abs() + torch.tensor([0.0, 0.0, 100.0, 0.0])
    voxels = voxelise(range_partition(), [points])
    assert voxels.coords[:, 1].unique().tolist() == [0]
    assert range_partition().is_outside(points).all()
    outputs = small_net()(voxels)
    assert outputs.point_logits.shape == (50, CLASSES) and outputs.point_logits.isfinite().all()


def test_an_empty_scan_is_refused():
    model = range_segmentor()
    with pytest.raises(InputError, match='scan_1.bin has no points'):
        model.data_preprocessor(batch((20, 0)), False)


def test_other_cells_are_refused():
    with pytest.raises(InputError, match='set partition to RangePartition'):
        small_net()(voxelise(range_partition(columns=()), [cloud(20)]))


def test_size_of_the_default_network():
    net = RangePointNet(19)
    assert 3.4e6 < sum(weight.numel() for weight in net.parameters()) < 6e6


def test_acceleration_keeps_the_predictions():
    net = small_net(fused_channels=64)
    for part in net.modules():
        if hasattr(part, 'running_mean'):
            torch.nn.init.uniform_(part.running_mean, -1, 1)
            torch.nn.init.uniform_(part.running_var, 0.5, 2)
    voxels = voxelise(range_partition(), [cloud(300)])
    fast = accelerate(copy.deepcopy(net))
    assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in fast.encoder.modules())
    with torch.no_grad():
        expected, got = net.eval()(voxels), fast(voxels)
    torch.testing.assert_close(got.point_logits, expected.point_logits, atol=2e-5, rtol=1e-4)


def test_training_on_one_scan_reduces_the_loss():
    model = range_segmentor()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        data = model.data_preprocessor(batch((300,)), True)
        parts = model(**data, mode='loss')
        total = parts['loss_point_ce'] + parts['loss_pixel_ce']
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.8 * losses[0]
    (sample, *_) = model.eval()(**model.data_preprocessor(batch((300,)), False), mode='predict')
    predicted = sample.pred_pts_seg.pts_semantic_mask
    assert predicted.shape == (300,) and int(predicted.max()) < CLASSES


@pytest.mark.parametrize('predict_from', ['point', 'voxel'])
def test_onnxruntime_agrees_with_torch_on_any_number_of_points(predict_from, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    model, out = range_segmentor(), tmp_path / 'net.onnx'
    model.predict_from = predict_from
    for part in model.net.modules():
        if hasattr(part, 'running_mean'):
            torch.nn.init.uniform_(part.running_mean, -1, 1)
            torch.nn.init.uniform_(part.running_var, 0.5, 2)
    spec = export_spec(model.eval(), None)
    assert write_onnx(spec, out) < 1e-4
    # The model itself on another cloud, of another size.
    data = model.data_preprocessor(batch((300,), labelled=False), False)
    voxels = data['inputs']['voxels']
    with torch.no_grad():
        outputs = model(**data)
    pixels = (voxels.coords[:, 1] * SHAPE[1] + voxels.coords[:, 2]).long()[voxels.point_to_voxel]
    nearest = nearest_points(distances(voxels.features), pixels, SHAPE[0] * SHAPE[1])
    inputs = {'features': voxels.features.numpy(), 'pixels': pixels.numpy(), 'nearest': nearest.numpy()}
    (got,) = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider']).run(None, inputs)
    torch.testing.assert_close(torch.from_numpy(got), model.point_logits_of(outputs, voxels), atol=1e-4, rtol=1e-4)


def test_sparse_networks_have_no_onnx_file():
    with pytest.raises(InputError, match='Cylinder3D cannot be exported: sparse convolutions'):
        export_spec(segmentor(), None)
