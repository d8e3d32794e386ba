"""Two frames: alignment against maps that are shifted, the frame before of a batch, velocities over the true time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from crowd_parts import RANGE_M, cloud_of, people_boxes, sample_of, tiny_settings
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.crowd.two_frame import AlignedFusion, TwoFrameDensityHead, TwoFrameVoxelNet, shifted
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.lidar_det.preprocessor import TwoFrameDataPreprocessor
from perception3d.registry import MODELS
from perception3d.structures.export_spec import export_spec

_EXTENT_M = (8.0, 16.0)


def two_frame_model(**head):
    settings = tiny_settings('dha_pillar', **head)
    settings.type = TwoFrameVoxelNet
    settings.data_preprocessor.type = TwoFrameDataPreprocessor
    settings.bbox_head.type = TwoFrameDensityHead
    settings.fusion = dict(channels=32, range_m=RANGE_M)
    return MODELS.build(settings)


def walking_batch(age_s=0.4, first_too=False):
    """A batch of a frame whose people walk along x, and optionally of the same as the first of a sequence."""
    boxes = people_boxes(6, 5)
    boxes[:, :2] = torch.cartesian_prod(torch.tensor([2.0, 5.0]), torch.tensor([-3.0, 0.0, 3.0]))
    boxes[:, 7:] = torch.tensor([1.2, 0.0])
    before = boxes.clone()
    before[:, 0] -= 1.2 * age_s
    clouds = [F.pad(cloud_of(each), (0, 1), value=age) for each, age in ((boxes, 0.0), (before, age_s))]
    samples, points = [sample_of(boxes)], [torch.cat(clouds)]
    if first_too:
        samples, points = [*samples, sample_of(boxes)], [*points, clouds[0]]
    return dict(inputs=dict(points=points), data_samples=samples)


def processed(model, batch, training=False):
    return model.data_preprocessor(copy.deepcopy(batch), training)


@pytest.mark.parametrize('cells', [(0, 0), (2, 0), (0, -1), (1, 3)])
def test_whole_cells_of_offset_shift_the_map(cells):
    maps = torch.randn(2, 3, 16, 10)
    cell_x, cell_y = _EXTENT_M[0] / 10, _EXTENT_M[1] / 16
    offset = torch.tensor([cells[0] * cell_x, cells[1] * cell_y]).view(1, 2, 1, 1).expand(2, 2, 16, 10)
    found = shifted(maps, offset, _EXTENT_M)
    for y in range(16):
        for x in range(10):
            row, column = y + cells[1], x + cells[0]
            inside = 0 <= row < 16 and 0 <= column < 10
            expected = maps[:, :, row, column] if inside else torch.zeros(2, 3)
            assert torch.allclose(found[:, :, y, x], expected, atol=1e-4)


def test_a_part_of_a_cell_is_read_between_its_neighbours():
    maps = torch.arange(10.0).expand(1, 1, 16, 10)
    offset = torch.zeros(1, 2, 16, 10)
    offset[:, 0] = 0.3 * _EXTENT_M[0] / 10
    assert torch.allclose(shifted(maps, offset, _EXTENT_M)[..., :9], maps[..., :9] + 0.3, atol=1e-4)


def test_offsets_start_at_zero_and_stay_below_a_metre():
    torch.manual_seed(0)
    fusion = AlignedFusion(8, RANGE_M)
    now, before = torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8)
    assert not fusion.offsets(now, before).any()
    torch.nn.init.normal_(fusion.offset.weight, std=10.0)
    length = torch.linalg.vector_norm(fusion.offsets(now, before), dim=1)
    assert length.max() <= 1 + 1e-5 and length.max() > 0.9
    fusion(now, before).sum().backward()
    assert fusion.offset.weight.grad.abs().sum() > 0


def test_the_preprocessor_parts_the_frames_by_age():
    model = two_frame_model()
    inputs = processed(model, walking_batch(0.5, first_too=True))['inputs']
    assert [cloud.shape[1] for cloud in inputs['points']] == [4, 4] and len(inputs['previous_points']) == 1
    assert np.allclose(inputs['interval_s'].numpy(), [0.5, np.nan], equal_nan=True)
    assert len(inputs['points'][0]) == len(inputs['points'][1]) == len(inputs['previous_points'][0])
    assert inputs['voxels']['voxels'].shape[2] == inputs['previous_voxels']['voxels'].shape[2] == 4
    alone = walking_batch(first_too=True)
    alone = dict(inputs=dict(points=alone['inputs']['points'][1:]), data_samples=alone['data_samples'][1:])
    assert processed(model, alone)['inputs']['previous_voxels'] is None
    assert processed(model, alone)['inputs']['interval_s'].isnan().all()


def test_a_first_frame_is_its_own_frame_before():
    torch.manual_seed(0)
    model = two_frame_model().eval()
    both = processed(model, walking_batch(first_too=True))
    with torch.no_grad():
        features = model.extract_feat(both['inputs'])
        single = super(TwoFrameVoxelNet, model).extract_feat(both['inputs'])
    now = single[0]
    assert torch.allclose(features.levels[0][1], model.fusion(now[1:], now[1:])[0], atol=1e-5)
    assert not torch.allclose(features.levels[0][0], model.fusion(now[:1], now[:1])[0], atol=1e-3)
    assert features.interval_s.tolist() == pytest.approx([0.4, 0.4])


def test_velocity_is_the_way_over_the_true_time():
    head = TwoFrameDensityHead(8, RANGE_M, parts=dict(channels=8)).eval()
    levels = [torch.randn(2, 8, n, n) for n in (16, 8, 4)]
    levels = tuple(level[:1].expand(2, -1, -1, -1) for level in levels)
    model = two_frame_model()
    features = type(model.extract_feat(processed(model, walking_batch())['inputs']))(levels, torch.tensor([0.4, 0.8]))
    with torch.no_grad():
        codes = head(features).codes
    assert torch.allclose(codes[0, 8:], 2 * codes[1, 8:], atol=1e-6) and torch.allclose(codes[0, :8], codes[1, :8])


def test_two_frames_are_learned():
    torch.manual_seed(0)
    model = two_frame_model().train()
    batch = walking_batch(first_too=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first = None
    for step in range(25):
        for group in optimizer.param_groups:
            group['lr'] = 0.01 * min(1, 2 * (1 - step / 25))
        total, log = model.parse_losses(model(**processed(model, batch, True), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        first = first or float(log['loss'].detach())
    assert all(p.grad is not None for p in model.parameters()) and float(total.detach()) < 0.3 * first
    with torch.no_grad():
        found, _ = model(**processed(model, batch, True), mode='predict')
    best = found.pred_instances_3d[found.pred_instances_3d.scores_3d > 0.3].bboxes_3d.tensor
    truth = batch['data_samples'][0].gt_instances_3d.bboxes_3d.tensor
    assert torch.cdist(truth[:, :2], best[:, :2]).min(1).values.max() < 0.3


def test_the_fast_path_does_not_mix_the_frames():
    torch.manual_seed(0)
    model = two_frame_model().eval()
    batch = walking_batch(first_too=True)
    with torch.no_grad():
        expected = model(**processed(model, batch), mode='tensor')
        fast = accelerate(model)
        for _ in range(2):
            found = fast(**processed(model, batch), mode='tensor')
            assert (expected.heatmap - found.heatmap).abs().max() < 1e-4 * expected.heatmap.abs().max()
            assert torch.allclose(expected.codes, found.codes, atol=1e-3)


def test_what_two_frames_cannot_do_is_said():
    model = two_frame_model()
    with pytest.raises(InputError, match='TwoFrameDataPreprocessor'):
        model.extract_feat({'points': [], 'voxels': {}})
    with pytest.raises(InputError, match='joins the maps of two frames'):
        export_spec(model, None)
