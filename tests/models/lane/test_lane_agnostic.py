"""Agnostic lanes: numbers of lanes, the loss of embeddings, clusters, a short training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lane_batches import lane_meta
from lane_trees import write_culane_tree
from mmdet3d.structures import Det3DDataSample
from mmengine.dataset import pseudo_collate
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.datasets.transforms.lane_instances import DrawLaneInstances
from perception3d.export.onnx_file import write_onnx
from perception3d.formats.culane.info import create_infos
from perception3d.models.lane.agnostic import AgnosticLaneNet, LaneEmbeddingLoss, discriminative_loss
from perception3d.models.lane.cluster_decoder import ClusterDecoder, mean_shift
from perception3d.models.lane.erfnet import ERFNet
from perception3d.models.lane.lane_resnet import LaneResNet
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import DATASETS, MODELS
from perception3d.structures.export_spec import export_spec


def slow_loss(embeddings, instances, pull, push, centre_weight):
    totals = []
    for maps, numbers in zip(embeddings.numpy().astype(np.float64), instances.numpy()):
        lanes = [maps[:, numbers == value].T for value in np.unique(numbers) if value not in (0, 255)]
        if not lanes:
            continue
        means = [lane.mean(0) for lane in lanes]
        total = centre_weight * np.mean([np.linalg.norm(mean) for mean in means])
        total += np.mean(
            [
                np.mean([max(0, np.linalg.norm(vector - mean) - pull) ** 2 for vector in lane])
                for lane, mean in zip(lanes, means)
            ]
        )
        pairs = [max(0, push - np.linalg.norm(means[a] - means[b])) ** 2 for a in range(len(means)) for b in range(a)]
        totals.append(total + (np.mean(pairs) if pairs else 0))
    return np.mean(totals)


def test_the_loss_is_that_of_loops():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(4, 3, 5, 6, generator=generator)
    instances = torch.randint(0, 4, (4, 5, 6), generator=generator)
    instances[0, 0], instances[1], instances[2] = 255, 0, (instances[2] > 0) * 7
    expected = slow_loss(embeddings, instances, 0.5, 3.0, 0.01)
    assert discriminative_loss(embeddings, instances, 0.5, 3.0, 0.01).item() == pytest.approx(expected, rel=1e-5)
    # All embeddings are one at first in the worst case: the gradient is finite.
    equal = torch.zeros(1, 3, 5, 6, requires_grad=True)
    discriminative_loss(equal, instances[:1]).backward()
    assert torch.isfinite(equal.grad).all()
    assert discriminative_loss(embeddings, torch.zeros_like(instances)) == 0
    with pytest.raises(InputError, match='pull is 2 and push 3'):
        LaneEmbeddingLoss(2, 3)


def test_mean_shift_finds_clusters_of_any_number():
    generator = np.random.default_rng(0)
    owners = generator.integers(0, 7, 200)
    vectors = 4.0 * np.stack([owners, owners % 2], 1) + generator.uniform(-0.4, 0.4, (200, 2))
    clusters = mean_shift(vectors, 1.5, 20)
    assert clusters.max() == 6
    assert all(len(set(clusters[owners == k])) == 1 for k in range(7))
    assert len(mean_shift(np.zeros((0, 4)), 1.0, 20)) == 0


def test_spread_embeddings_have_no_more_clusters_than_are_sought():
    vectors = 10.0 * np.arange(50)[:, None]
    np.testing.assert_array_equal(mean_shift(vectors, 1.5, 8), [*range(8), *[-1] * 42])
    logits, embeddings = torch.zeros(1, 2, 32, 64), torch.zeros(1, 1, 32, 64)
    columns = np.arange(1, 64, 8)
    for column in columns:
        logits[:, 1, :, column : column + 3] = 20
        embeddings[:, :, :, column : column + 3] = 10.0 * column
    sample = Det3DDataSample(metainfo=lane_meta((32, 64), (80, 128), crop_top_px=16))
    for most, count in ((5, 5), (64, len(columns))):
        ClusterDecoder(row_step=2, max_clusters=most).decode(LaneOutputs((), logits, None, embeddings), sample)
        assert len(sample.pred_lanes) == count
    with pytest.raises(InputError, match='max_clusters 0: expected'):
        ClusterDecoder(max_clusters=0)


def test_a_polyline_for_each_cluster_in_stored_pixels():
    logits, embeddings = torch.zeros(1, 2, 32, 64), torch.zeros(1, 4, 32, 64)
    logits[:, 0] = 5
    columns = (8, 24, 33, 50, 58)
    for number, column in enumerate(columns):
        logits[:, 1, 8:, column : column + 3] = 20
        embeddings[:, number % 4, :, column : column + 3] = 4.0 * (1 + number // 4)
    # A blot in two rows is no lane.
    logits[:, 1, 29:, 2:5], embeddings[:, :, 29:, 2:5] = 20, -9
    sample = Det3DDataSample(metainfo=lane_meta((32, 64), (80, 128), crop_top_px=16))
    ClusterDecoder(row_step=2).decode(LaneOutputs((), logits, None, embeddings), sample)
    lanes = sample.pred_lanes
    assert len(lanes) == 5 and set(lanes.labels) == {-1} and (lanes.scores > 0.99).all()
    for line, column in zip(sorted(lanes.polylines, key=lambda line: line[0, 0]), columns):
        np.testing.assert_allclose(line[:, 0], (column + 1.5) * 2 - 0.5)
        np.testing.assert_allclose(line[:, 1], (np.arange(31, 8, -2) + 0.5) * 2 + 16 - 0.5)
    logits[:, 1] = 0
    ClusterDecoder().decode(LaneOutputs((), logits, None, embeddings), sample)
    assert len(sample.pred_lanes) == 0


def test_lanes_of_no_slot_are_numbered_and_move_with_the_image():
    lanes = [np.array([[x, 40.0], [x, 0.0]]) for x in (10.0, 30.0, 50.0)] + [np.array([[5.0, 5.0]])]
    matrix = np.diag([0.5, 0.5, 1.0, 1.0])[None].copy()
    matrix[0, 0, 0], matrix[0, 0, 2] = -0.5, 32
    mask = np.zeros((20, 32), np.uint8)
    mask[:, 1], mask[3, 3] = 2, 255
    results = dict(
        lanes=lanes, img=np.zeros((20, 32, 3), np.uint8), img_from_stored=matrix, lane_mask=mask, img_paths=['a.jpg']
    )
    drawn = DrawLaneInstances(lane_width_px=2).transform(results)['lane_instances']
    # Mirrored, at half the size: x = 32 - (x + 0.5) / 2 - 0.5.
    assert {k: set(np.nonzero(drawn == k)[1]) for k in (1, 2, 3)} == {1: {26}, 2: {16}, 3: {6}}
    assert (drawn[:, 1] == 255).all() and drawn[3, 3] == 255 and set(np.unique(drawn)) == {0, 1, 2, 3, 255}


@pytest.mark.parametrize('base', [dict(type=ERFNet), dict(type=LaneResNet, base_channels=8)])
def test_other_networks_have_the_branch(base):
    net = AgnosticLaneNet(base, 128 if base['type'] is ERFNet else 64, (32, 64), 3)
    outputs = net(torch.zeros(2, 3, 32, 64))
    assert outputs.seg_logits.shape == (2, 2, 32, 64) and outputs.embeddings.shape == (2, 3, 32, 64)


def test_the_small_config_is_whole():
    config = load_config(config_path('lane_agnostic_enet_tiny_104x488_10e_culane_sim'))
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(0.466, abs=0.0006)
    steps = [step['type'] for step in config.train_dataloader.dataset.pipeline]
    assert steps[-2] is DrawLaneInstances and model.net.input_hw == (104, 488)
    assert model.expected_data().num_classes is None


def test_a_few_steps_on_images_find_the_lanes_apart(tmp_path):
    root = write_culane_tree(tmp_path / 'culane')
    create_infos(root, jobs=1, progress=False)
    options = dict(data_root=str(root), crop_top_px=20, input_hw=[48, 160], lane_width_px=4, row_step=2)
    config = load_config(config_path('lane_agnostic_enet_208x976_12e_culane'), options)
    torch.manual_seed(0)
    np.random.seed(0)
    config.model.net.base.dropout = 0.0
    model = MODELS.build(config.model)
    train = DATASETS.build(config.train_dataloader.dataset)
    batch = pseudo_collate([train[k] for k in range(2)])
    # Four lanes in one image, three in the other.
    assert [set(sample.gt_lane_seg.lane_instances.unique().tolist()) - {255} for sample in batch['data_samples']] == [
        {0, 1, 2, 3, 4}, {0, 1, 2, 3}
    ]  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    history = []
    for _ in range(16):
        losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
        assert losses.keys() == {'loss_seg', 'loss_iou', 'loss_embed'}
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append([losses['loss_seg'].item(), losses['loss_embed'].item()])
    assert history[-1][0] < 0.8 * history[0][0] and history[-1][1] < 0.8 * history[0][1]
    assert write_onnx(export_spec(model.eval(), lambda: {}), tmp_path / 'a.onnx') < 1e-4
    assert export_spec(model, lambda: {}).outputs == ('seg_logits', 'embeddings')
    test = DATASETS.build(config.test_dataloader.dataset)
    with torch.no_grad():
        (sample,) = model(**model.data_preprocessor(pseudo_collate([test[0]])), mode='predict')
    assert test.write_result(sample, tmp_path / 'a.lines.txt')
