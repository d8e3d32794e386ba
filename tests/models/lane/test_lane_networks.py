"""ERFNet, ResNets and SCNN for lanes: sizes, stages, gradients, export, weights of torchvision, messages."""

from __future__ import annotations

import pytest
import torch
from lane_batches import lane_batch
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.export.onnx_file import write_onnx
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.lane.enet import ENet
from perception3d.models.lane.erfnet import ERFNet
from perception3d.models.lane.lane_resnet import LaneResNet
from perception3d.models.lane.losses import LaneCrossEntropyLoss, LaneExistenceLoss
from perception3d.models.lane.preprocessor import LanePreprocessor
from perception3d.models.lane.row_decoder import RowDecoder
from perception3d.models.lane.scnn import SCNN, MessagePassing, vgg16_layers
from perception3d.models.lane.segmentor import LaneSegmentor
from perception3d.registry import MODELS
from perception3d.structures.export_spec import export_spec

# Small networks, and the channels of their stages, whose maps are at a quarter and then at an eighth; of one of them
# all at a quarter.
NETS = {
    'enet': (dict(type=ENet), (64, 128, 128, 128)),
    'erfnet': (dict(type=ERFNet), (64, 128, 128, 128)),
    'resnet18': (dict(type=LaneResNet, base_channels=8), (8, 16, 32, 64)),
    'resnet18 of stride 4': (dict(type=LaneResNet, base_channels=8, output_stride=4), (8, 16, 32, 64)),
    'resnet101': (dict(type=LaneResNet, base_channels=4, depth=101), (16, 32, 64, 128)),
    'scnn': (dict(type=SCNN, width=8), (32, 64, 64, 16)),
}


def model_of(name):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type=LaneSegmentor,
            data_preprocessor=dict(type=LanePreprocessor),
            net=dict(num_lanes=4, input_hw=(32, 64), **NETS[name][0]),
            losses=dict(seg=dict(type=LaneCrossEntropyLoss), exist=dict(type=LaneExistenceLoss, weight=0.1)),
            decoder=dict(type=RowDecoder),
        )
    )


# Millions of parameters for four lanes at 288 x 800. Published: ERFNet 2.68 (pytorch-auto-drive), SCNN 20.72.
@pytest.mark.parametrize(
    'cls, settings, size',
    [
        (ERFNet, {}, 2.677), (SCNN, {}, 20.742), (LaneResNet, dict(depth=18), 11.857),
        (LaneResNet, dict(depth=34), 21.965), (LaneResNet, dict(depth=101), 43.377),
    ],
)  # fmt: skip
def test_sizes(cls, settings, size):
    with torch.device('meta'):
        net = cls(4, (288, 800), **settings)
    assert sum(value.numel() for value in net.parameters()) / 1e6 == pytest.approx(size, abs=0.0006)


@pytest.mark.parametrize('name', NETS)
def test_every_network_has_four_stages_and_trains_all_of_its_parameters(name):
    model = model_of(name).train()
    data = model.data_preprocessor(lane_batch(), True)
    outputs = model(**data, mode='tensor')
    shapes = [tuple(stage.shape[1:]) for stage in outputs.stages]
    sizes = [(8, 16)] * 4 if 'stride 4' in name else [(8, 16), *[(4, 8)] * 3]
    assert shapes == [(channels, *size) for channels, size in zip(NETS[name][1], sizes)]
    assert outputs.seg_logits.shape == (2, 5, 32, 64) and outputs.exist_logits.shape == (2, 4)
    sum(model(**data, mode='loss').values()).backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None]


@pytest.mark.parametrize('name', ['enet', 'erfnet', 'resnet18', 'resnet18 of stride 4', 'scnn'])
def test_every_network_exports_and_is_the_same_in_its_fast_form(name, tmp_path):
    model = model_of(name)
    # Running statistics that are not those of the start, as after a training.
    model.train()
    model(**model.data_preprocessor(lane_batch(), True), mode='tensor')
    spec = export_spec(model.eval(), lambda: {})
    assert spec.outputs == ('seg_logits', 'exist_logits')
    assert write_onnx(spec, tmp_path / 'a.onnx') < 1e-4
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=dict(img=spec.inputs[0].example)))
        outputs = model(**data, mode='tensor')
        exported = spec.network(spec.inputs[0].example)
        fast = accelerate(model)(**data, mode='tensor')
    for seg, exist in (exported, (fast.seg_logits, fast.exist_logits)):
        torch.testing.assert_close(seg, outputs.seg_logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(exist, outputs.exist_logits, atol=1e-4, rtol=1e-4)


def test_messages_pass_slice_by_slice():
    torch.manual_seed(0)
    passing, x = MessagePassing(3), torch.randn(2, 3, 5, 7)
    with torch.no_grad():
        for conv in passing.convs:
            conv.weight.mul_(10)
    expected = x.clone()
    down, up, right, left = (conv.weight for conv in passing.convs)
    for i in range(1, 5):
        expected[:, :, i : i + 1] += F.conv2d(expected[:, :, i - 1 : i], down[:, :, None], padding=(0, 4)).relu()
    for i in range(3, -1, -1):
        expected[:, :, i : i + 1] += F.conv2d(expected[:, :, i + 1 : i + 2], up[:, :, None], padding=(0, 4)).relu()
    for i in range(1, 7):
        expected[..., i : i + 1] += F.conv2d(expected[..., i - 1 : i], right[..., None], padding=(4, 0)).relu()
    for i in range(5, -1, -1):
        expected[..., i : i + 1] += F.conv2d(expected[..., i + 1 : i + 2], left[..., None], padding=(4, 0)).relu()
    # The messages add up along a row: values reach 1e5, and sums are rounded in another order.
    torch.testing.assert_close(passing(x), expected, rtol=1e-4, atol=1e-5)
    assert (passing(x) - x).abs().max() > 0.1


def test_the_kernels_of_messages_start_as_released():
    deviation = MessagePassing(64).convs[0].weight.std().item()
    assert deviation == pytest.approx((2 / (9 * 64 * 64 * 5)) ** 0.5, rel=0.02)


def test_weights_of_torchvision_fill_the_backbone(tmp_path):
    # torchvision's names: convolutions of vgg16_bn by their numbers, with four more poolings between them.
    convs = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    layers = vgg16_layers(4)
    assert [k for k, layer in enumerate(layers) if isinstance(layer, torch.nn.Conv2d)] == convs
    for cls, settings, part, prefix in (
        (SCNN, dict(width=4), 'features', 'features.'), (LaneResNet, dict(base_channels=4), 'backbone', ''),
    ):  # fmt: skip
        torch.manual_seed(1)
        source = getattr(cls(4, (32, 64), **settings), part)
        torch.save({prefix + key: value for key, value in source.state_dict().items()}, tmp_path / 'a.pth')
        net = cls(4, (32, 64), **settings, pretrained=str(tmp_path / 'a.pth'))
        net.init_weights()
        assert all(
            torch.equal(value, source.state_dict()[key]) for key, value in getattr(net, part).state_dict().items()
        )


def test_other_depths_and_strides_are_refused():
    with pytest.raises(InputError, match="unknown depth '19'"):
        LaneResNet(4, depth=19)
    with pytest.raises(InputError, match="unknown output_stride '16'"):
        LaneResNet(4, output_stride=16)
