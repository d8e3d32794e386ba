"""LaneSegmentor with an ENet: losses, predictions, taps, what it says to users."""

from __future__ import annotations

import pytest
import torch
from lane_batches import lane_batch

from perception3d.checks import InputError
from perception3d.distill.tap import TapSet
from perception3d.models.lane.enet import ENet
from perception3d.models.lane.losses import LaneCrossEntropyLoss, LaneExistenceLoss, LaneSoftIoULoss
from perception3d.models.lane.outputs import STAGES
from perception3d.models.lane.preprocessor import LanePreprocessor
from perception3d.models.lane.row_decoder import RowDecoder
from perception3d.models.lane.segmentor import LaneSegmentor
from perception3d.registry import MODELS


def model_of(num_lanes=4, input_hw=(32, 64), **changes):
    torch.manual_seed(0)
    config = dict(
        type=LaneSegmentor,
        data_preprocessor=dict(type=LanePreprocessor),
        net=dict(type=ENet, num_lanes=num_lanes, input_hw=input_hw),
        losses=dict(
            seg=dict(type=LaneCrossEntropyLoss),
            iou=dict(type=LaneSoftIoULoss, weight=0.1),
            exist=dict(type=LaneExistenceLoss, weight=0.1),
        ),
        decoder=dict(type=RowDecoder, row_step_px=4, num_rows=12, threshold=0.0, exist_threshold=0.0),
    )
    return MODELS.build(config | changes)


@pytest.fixture(scope='module')
def model():
    return model_of().eval()


def test_losses_train_every_parameter():
    model = model_of().train()
    losses = model(**model.data_preprocessor(lane_batch(), True), mode='loss')
    assert losses.keys() == {'loss_seg', 'loss_iou', 'loss_exist'}
    assert losses['loss_iou'] < 0.1 and 0 < losses['loss_exist'] < 0.1
    sum(losses.values()).backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


def test_predictions_are_lanes_in_the_stored_image(model):
    batch = lane_batch()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(batch), mode='predict')
    for sample in samples:
        lanes = sample.pred_lanes
        assert len(lanes) == 4 and list(lanes.labels) == [0, 1, 2, 3] and lanes.scores.max() <= 1
        for line in lanes.polylines:
            # The stored image has 64 rows; its lowest row comes first.
            assert line[0, 1] == 63 and (line[:-1, 1] - line[1:, 1] == 4).all() and 0 <= line[:, 0].max() < 128


def test_a_link_finds_the_same_taps_in_every_network(model):
    names = [*STAGES, 'seg_logits', 'exist_logits']
    taps = TapSet(model, names)
    data = model.data_preprocessor(lane_batch())
    with torch.no_grad(), taps.record() as records:
        outputs = model(**data, mode='tensor')
    assert [tuple(records[name].shape[1:]) for name in names] == [
        (64, 8, 16), (128, 4, 8), (128, 4, 8), (128, 4, 8), (5, 32, 64), (4,)
    ]  # fmt: skip
    assert all(torch.equal(records[name], stage) for name, stage in zip(STAGES, outputs.stages))


def test_agnostic_models_have_one_class_for_lanes_of_all_slots():
    model = model_of(
        num_lanes=1,
        agnostic=True,
        net=dict(type=ENet, num_lanes=1, input_hw=(32, 64), exist=False),
        losses=dict(seg=dict(type=LaneCrossEntropyLoss)),
    )
    losses = model(**model.data_preprocessor(lane_batch(), True), mode='loss')
    assert torch.isfinite(losses['loss_seg']) and model.expected_data().num_classes is None


def test_what_does_not_fit_is_an_error(model):
    batch = lane_batch(num_lanes=6)
    with pytest.raises(InputError, match='a/0001: its lane mask holds 5, 6, but the network has 4 lanes'):
        model(**model.data_preprocessor(batch), mode='loss')
    second = (batch := lane_batch())['data_samples'][1]
    second.set_metainfo(dict(frame_id='a/0002'))
    second.gt_lane_seg.lane_mask[0, 0, :2] = torch.tensor([9, 255])
    with pytest.raises(InputError, match='a/0002: its lane mask holds 9, but'):
        model(**model.data_preprocessor(batch), mode='loss')
    with pytest.raises(InputError, match='images have 64 x 40 pixels, but the network takes 64 x 32'):
        model(**model.data_preprocessor(lane_batch((40, 64))), mode='predict')
    del (batch := lane_batch())['data_samples'][1].gt_lane_exist
    with pytest.raises(InputError, match='a sample of the batch has no gt_lane_exist.exist'):
        model(**model.data_preprocessor(batch), mode='loss')
    del batch['data_samples'][0].gt_lane_seg
    with pytest.raises(InputError, match='a/0001 has no gt_lane_seg.lane_mask'):
        model(**model.data_preprocessor(batch), mode='loss')
    mixed = dict(inputs=dict(img=[torch.zeros(3, 32, 64), torch.zeros(3, 32, 72)]))
    with pytest.raises(InputError, match='images of one batch have 64 x 32 and 72 x 32 pixels'):
        model.data_preprocessor(mixed)


def test_weights_for_other_lanes_are_explained(model):
    other = model_of(num_lanes=6)
    assert 'for another number of lanes (here 4)' in model.explain_weights(other.state_dict())
    assert model.explain_weights(model.state_dict()) is None and model.explain_weights({}) is None
