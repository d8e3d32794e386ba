"""The segmentor on a small Cylinder3D: its modes, its taps, and input that it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from seg_parts import CLASSES, batch, cloud, segmentor

from perception3d.checks import InputError
from perception3d.distill.tap import TapSet
from perception3d.engine.agreement import check_model_and_data
from perception3d.models.lidar_seg import preprocessor
from perception3d.models.lidar_seg.losses import WeightedCrossEntropy

NAMES = ('voxel_features', 'voxel_logits', 'point_features', 'point_logits')


def _run(model, data, mode):
    data = model.data_preprocessor(data, mode == 'loss')
    return data, model(**data, mode=mode)


def test_a_step_trains_every_parameter():
    model = segmentor().train()
    _, losses = _run(model, batch(), 'loss')
    assert sorted(losses) == ['loss_point_ce', 'loss_voxel_ce', 'loss_voxel_lovasz']
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert not [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]


@pytest.mark.parametrize('predict_from', ['voxel', 'point'])
def test_every_point_gets_a_class_in_its_place(predict_from):
    model = segmentor(predict_from=predict_from).eval()
    with torch.no_grad():
        data, samples = _run(model, batch(labelled=False), 'predict')
        voxels = data['inputs']['voxels']
        outputs = model(data['inputs'], mode='tensor')
    masks = [sample.pred_pts_seg.pts_semantic_mask for sample in samples]
    assert [len(mask) for mask in masks] == [300, 200] and all(mask.dtype == torch.int64 for mask in masks)
    logits = outputs.point_logits if predict_from == 'point' else outputs.voxel_logits[voxels.point_to_voxel]
    assert torch.equal(torch.cat(masks), logits.argmax(1))
    assert torch.equal(model.point_logits_of(outputs, voxels), logits)
    assert outputs.voxel_features.shape == (len(voxels.coords), 16) and outputs.point_features.shape == (500, 16)


def test_a_sample_is_predicted_as_it_is_alone():
    model = segmentor().eval()
    with torch.no_grad():
        _, both = _run(model, batch(), 'predict')
        _, alone = _run(model, batch((300,)), 'predict')
    assert torch.equal(both[0].pred_pts_seg.pts_semantic_mask, alone[0].pred_pts_seg.pts_semantic_mask)


def test_outputs_can_be_tapped_by_their_names():
    model = segmentor().eval()
    data = model.data_preprocessor(batch(), False)
    taps = TapSet(model, NAMES)
    with torch.no_grad(), taps.record() as records:
        outputs = model(**data, mode='tensor')
    assert all(torch.equal(records[name], getattr(outputs, name)) for name in NAMES)


def test_inputs_without_voxels_are_refused():
    with pytest.raises(InputError, match="inputs have no 'voxels': set data_preprocessor to a PointSegPreprocessor"):
        segmentor()(batch()['inputs'])


def test_a_loss_of_points_needs_their_branch():
    model = segmentor(net=dict(refine=False))
    with pytest.raises(InputError, match=r'losses\.point_ce reads point logits, but Cylinder3D'):
        _run(model, batch(), 'loss')
    with pytest.raises(InputError, match="predict_from is 'voxels'"):
        segmentor(predict_from='voxels')
    with pytest.raises(InputError, match=r'losses\.ce\.of is None'):
        segmentor(losses=dict(ce=dict(type=WeightedCrossEntropy)))


def test_bad_labels_and_clouds_are_refused_by_file():
    model = segmentor()
    data = batch()
    data['data_samples'][1].gt_pts_seg.pts_semantic_mask[7] = CLASSES
    with pytest.raises(InputError, match=r'scan_1\.bin: its point labels hold 4, but the network has 4 classes: .*255'):
        _run(model, data, 'loss')
    data = batch()
    data['inputs']['points'][1] = cloud(0)
    with pytest.raises(InputError, match=r'scan_1\.bin has no points'):
        _run(model, data, 'loss')
    data = batch()
    data['inputs']['points'][0] = cloud(299)
    with pytest.raises(InputError, match=r'scan_0\.bin has 299 points, but 300 labels'):
        _run(model, data, 'loss')
    with pytest.raises(InputError, match='load point labels'):
        _run(model, batch(labelled=False), 'loss')


def test_a_cloud_outside_the_grid_is_predicted_with_one_warning(monkeypatch):
    said = []
    monkeypatch.setattr(preprocessor, 'print_log', lambda text, *_: said.append(text))
    model, data = segmentor().eval(), batch((300, 50), labelled=False)
    data['inputs']['points'][1][:, :2] += 500
    with torch.no_grad():
        _, samples = _run(model, data, 'predict')
        _run(model, data, 'predict')
    assert len(samples[1].pred_pts_seg.pts_semantic_mask) == 50
    assert len(said) == 1 and 'all points of scan_1.bin are outside' in said[0]


def test_a_scan_with_a_single_voxel_trains():
    model = segmentor().train()
    data = batch((40,))
    data['inputs']['points'][0][:] = torch.tensor([3.0, 4.0, 0.0, 0.5])
    _, losses = _run(model, data, 'loss')
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_classes_of_network_and_data_are_compared():
    data = SimpleNamespace(metainfo={'classes': ('road', 'car', 'pole')})
    with pytest.raises(InputError, match=r'net\.num_classes is 4, but the data set of train_dataloader has 3 classes'):
        check_model_and_data(segmentor(), data, 'train_dataloader')
