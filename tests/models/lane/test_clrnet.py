"""CLRNet: lanes to rows of numbers and back, suppression, a short training, the file up to its head."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from lane_batches import lane_batch, lane_meta
from lane_trees import write_culane_tree
from mmdet3d.structures import Det3DDataSample
from mmengine.dataset import pseudo_collate
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.export.onnx_file import write_onnx
from perception3d.formats.culane.info import create_infos
from perception3d.models.lane.clr_decoder import CLRDecoder, suppress_lanes
from perception3d.models.lane.clr_targets import ABSENT, encode_lane, encoded_lanes, head_samples
from perception3d.models.lane.clrnet import LaneCLRNet, SoftmaxFocalLoss
from perception3d.models.lane.preprocessor import LanePreprocessor
from perception3d.registry import DATASETS, MODELS
from perception3d.structures.export_spec import export_spec
from perception3d.structures.lanes import Lanes

HW = (320, 800)
STORED = (590, 1640)


def as_prediction(rows):
    """Returns targets (N, 6 + R) in the units of predictions, all of probability 0.9999."""
    values = torch.from_numpy(rows.copy())
    values[:, 0], values[:, 1] = -5, 5
    values[:, 3] /= HW[1] - 1
    values[:, 5] /= values.shape[1] - 7
    values[:, 6:] /= HW[1] - 1
    return values


def curve(bottom, bend, y):
    t = (590 - y) / 300
    return np.stack([bottom + 200 * t + bend * t**2, y], 1)


def test_lanes_there_and_back_are_the_same_within_half_a_pixel():
    # Bottom first, from the top, one that ends above the bottom, one that begins left of the image.
    y = np.arange(590.0, 290, -10)
    lines = (curve(300, 150, y), curve(700, -320, y)[::-1], curve(1100, 90, y[10:]), curve(-150, 200, y))
    sample = Det3DDataSample(metainfo=lane_meta(HW, STORED, 270))
    sample.gt_lanes = Lanes(lines, np.arange(4))
    rows = encoded_lanes(sample, HW)
    assert rows.shape == (4, 78)
    CLRDecoder(distance_px=20.0).decode(as_prediction(rows), HW, sample)
    lanes = sample.pred_lanes
    assert len(lanes) == 4 and set(lanes.labels) == {-1} and (lanes.scores > 0.999).all()
    for line, back in zip(lines, lanes.polylines):
        up = line if line[0, 1] > line[-1, 1] else line[::-1]
        assert len(back) > 30 and (np.diff(back[:, 1]) < 0).all()
        # Above the lowest annotated point; below it the lane goes on straight.
        kept = back[:, 1] <= up[0, 1]
        expected = np.interp(back[kept, 1], up[::-1, 1], up[::-1, 0])
        assert np.abs(back[kept, 0] - expected).max() < 0.5
        assert back[-1, 1] - up[-1, 1] < 2 * 320 / 71 and back[0, 0] > -0.5
    # The lowest row is that of the bottom pixels, where the lane reaches it in the image.
    assert lanes.polylines[2][0, 1] == pytest.approx(589) and rows[3, 2] > 0


def test_the_columns_of_a_lane():
    # Straight, to the left: from (400, 319) up to y = 100.
    row = encode_lane(np.array([[400.0, 319.0], [181.0, 100.0]]), HW)
    heights = np.linspace(319, 0, 72)
    count = int((heights >= 100).sum())
    assert row[:4].tolist() == [0, 1, 0, 400] and row[5] == count
    # The head's line: x0 + rise / tan(angle), rise in parts of 320 pixels.
    line = row[3] + np.arange(72) * 320 / 71 / np.tan(row[4] * np.pi)
    np.testing.assert_allclose(row[6 : 6 + count], line[:count], atol=0.01)
    assert 0.5 < row[4] < 1 and (row[6 + count :] == ABSENT).all()
    # A lane that leaves the image and comes back: its longer part.
    y = np.arange(319.0, 19, -4)
    row = encode_lane(np.stack([60 - 90 * np.sin((319 - y) / 90), y], 1), HW)
    reached = row[6:] != ABSENT
    assert row[5] == reached.sum() and np.flatnonzero(reached)[0] == round(row[2] * 71) > 20
    # Outside of the image, flat, one point.
    for points in ([[900, 300], [950, 100]], [[10, 50], [300, 50.3]], [[3, 3]], np.zeros((0, 2))):
        assert encode_lane(np.array(points, float), HW) is None


def test_targets_of_a_batch_have_as_many_rows_as_the_fullest_image():
    batch = lane_batch((32, 64))
    lines = (np.array([[20.0, 60.0], [40.0, 10.0]]), np.array([[60.0, 60.0], [50.0, 10.0]]))
    for sample, number in zip(batch['data_samples'], (2, 0)):
        sample.gt_lanes = Lanes(lines[:number], np.arange(number))
    first, second = head_samples(batch['data_samples'], 4, (32, 64), 12)
    assert first.lines_array.shape == second.lines_array.shape == (2, 18)
    assert first.lines_array[:, 1].tolist() == [1, 1] and not second.lines_array.any()
    assert first.gt_sem_seg.sem_seg.shape == (1, 32, 64)
    with pytest.raises(InputError, match='a/0001 has no gt_lanes'):
        head_samples(lane_batch((32, 64))['data_samples'], 4, (32, 64), 12)


def slow_suppression(x, starts, counts, scores, distance):
    left, kept = sorted(range(len(x)), key=lambda k: -scores[k]), []
    while left:
        best = left.pop(0)
        kept.append(best)
        rest = []
        for other in left:
            low = max(starts[best], starts[other])
            high = min(starts[best] + counts[best], starts[other] + counts[other], x.shape[1])
            gaps = [abs(x[best, row] - x[other, row]) for row in range(low, high)]
            if not gaps or sum(gaps) / len(gaps) >= distance:
                rest.append(other)
        left = rest
    return kept


def test_suppression_is_that_of_loops():
    generator = np.random.default_rng(0)
    for number in (0, 1, 12, 40):
        x = generator.uniform(0, 200, (number, 1)) + generator.uniform(-20, 20, (number, 1)) * np.arange(9) / 9
        starts, counts = generator.integers(0, 9, number), generator.integers(-1, 11, number)
        # Some scores are equal.
        scores = np.round(generator.uniform(0, 1, number), 1)
        tensors = [torch.from_numpy(value) for value in (x, starts, counts, scores)]
        expected = slow_suppression(x, starts, counts, scores, 15)
        assert suppress_lanes(*tensors, 15.0).tolist() == expected
        assert suppress_lanes(*tensors, 15.0, 3).tolist() == expected[:3]
    assert len(expected) < 40


def test_unlikely_lanes_and_lanes_on_a_better_one_go():
    y = np.arange(590.0, 290, -10)
    sample = Det3DDataSample(metainfo=lane_meta(HW, STORED, 270))
    sample.gt_lanes = Lanes(tuple(curve(bottom, 0, y) for bottom in (300, 310, 600, 900)), np.arange(4))
    predictions = as_prediction(encoded_lanes(sample, HW))
    predictions[0, 1], predictions[3, 1] = 4, -6
    CLRDecoder(distance_px=10).decode(predictions, HW, sample)
    assert [round(line[0, 0]) for line in sample.pred_lanes.polylines] == [311, 601]
    predictions[:, 1] = -9
    CLRDecoder().decode(predictions, HW, sample)
    assert len(sample.pred_lanes) == 0
    for settings in (dict(score=2), dict(distance_px=-1), dict(most=0)):
        with pytest.raises(InputError, match='expected a score in 0..1'):
            CLRDecoder(**settings)


def test_the_focal_loss_of_a_prior():
    logits = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    p = [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1.5))]
    expected = [-0.25 * (1 - q) ** 2 * np.log(q) for q in p]
    assert SoftmaxFocalLoss()(logits, torch.tensor([0, 1])).tolist() == pytest.approx(expected, rel=1e-5)


def small_model(**changes):
    settings = dict(num_lanes=4, input_hw=(64, 128), base_channels=8, head=dict(num_priors=32, sample_points=12))
    preprocessor, decoder = dict(type=LanePreprocessor), dict(type=CLRDecoder)
    return LaneCLRNet(data_preprocessor=preprocessor, decoder=decoder, **settings | changes)


def test_images_without_lanes_give_finite_losses_to_every_weight():
    torch.manual_seed(0)
    model = small_model().train()
    batch = lane_batch((64, 128))
    for sample in batch['data_samples']:
        sample.gt_lanes = Lanes((), np.zeros(0, np.int64))
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert losses['loss_line'] == losses['loss_iou'] == 0 < losses['loss_cls'] and torch.isfinite(total)
    assert all(value.grad is not None for value in model.net.head.parameters())
    # The head leaves a graph in its buffers, with which no model can be copied.
    copy.deepcopy(model)
    with pytest.raises(InputError, match='images have 64 x 32 pixels, but the network takes 128 x 64'):
        model(**model.data_preprocessor(lane_batch((32, 64))))
    with pytest.raises(InputError, match='depth'):
        small_model(depth=20)


def test_priors_are_those_of_the_weights():
    torch.manual_seed(0)
    model = small_model().eval()
    batch = model.data_preprocessor(lane_batch((64, 128)))
    before = model(**batch)
    with torch.no_grad():
        model.net.head.prior_embeddings.weight[:, 1] += 0.25
    assert not torch.equal(model(**batch), before)


def test_the_shipped_configs_are_whole():
    for name, size in (('clrnet_r18_320x800_15e_culane', 11.774), ('clrnet_r18_tiny_104x488_10e_culane_sim', 3.367)):
        config = load_config(config_path(name))
        with torch.device('meta'):
            model = MODELS.build(config.model)
        assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(size, abs=0.0006), name
        for loader in (config.train_dataloader, config.test_dataloader):
            (resize,) = [step for step in loader.dataset.pipeline if 'input_hw' in step]
            assert tuple(resize.input_hw) == model.net.input_hw
        assert model.expected_data().num_classes.value == 4


def test_a_few_steps_lower_the_losses_and_the_file_is_torchs(tmp_path):
    root = write_culane_tree(tmp_path / 'culane')
    create_infos(root, jobs=1, progress=False)
    options = dict(
        data_root=str(root), crop_top_px=20, input_hw=[64, 160], lane_width_px=4, base_channels=16, num_priors=32,
        sample_points=12,
    )  # fmt: skip
    config = load_config(config_path('clrnet_r18_320x800_15e_culane'), options)
    torch.manual_seed(0)
    np.random.seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    train = DATASETS.build(config.train_dataloader.dataset)
    batch = pseudo_collate([train[k] for k in range(2)])
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    history = []
    for _ in range(25):
        losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
        assert losses.keys() == {'loss_cls', 'loss_line', 'loss_iou', 'loss_seg'}
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append([value.item() for value in losses.values()])
    history = np.array(history)
    assert (history[-5:].mean(0) < 0.8 * history[0]).all(), history
    assert write_onnx(export_spec(model.eval(), lambda: {}), tmp_path / 'a.onnx') < 1e-4
    test = DATASETS.build(config.test_dataloader.dataset)
    model.decoder.score = 0.0
    with torch.no_grad():
        (sample,) = model(**model.data_preprocessor(pseudo_collate([test[0]])), mode='predict')
    assert isinstance(sample.pred_lanes, Lanes) and 0 < len(sample.pred_lanes) <= 4
    assert test.write_result(sample, tmp_path / 'a.lines.txt')
