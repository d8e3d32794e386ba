"""What an mmcv without compiled ops answers: its own facts, our ops on the CPU, and a name for every other op."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path
from types import ModuleType

import mmcv.ops
import numpy as np
import pytest
import torch
from mmcv.utils import collect_env, ext_loader

from perception3d.apis.cli import run_tool
from perception3d.checks import InputError
from perception3d.compat import mmcv_ext
from perception3d.compat.mmcv_ext import MissingOpError, ops_are_compiled
from perception3d.compat.mmcv_on_cpu import LIDAR_OPS, OTHER_OPS


@pytest.fixture(scope='module')
def ext() -> ModuleType:
    """The replacement, whatever is installed."""
    module = ModuleType('mmcv._ext')
    mmcv_ext._ExtLoader().exec_module(module)
    return module


def test_a_missing_op_is_named_with_the_command_that_builds_it(ext: ModuleType) -> None:
    with pytest.raises(
        MissingOpError, match=r"its op 'softnms' .* on 'cpu': build .* `make setup MMCV_OPS=1`"
    ) as caught:
        ext.softnms(torch.zeros(3, 4), torch.zeros(3))
    assert isinstance(caught.value, InputError) and '\n' not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    # A kernel of ours is for the CPU alone.
    elsewhere = torch.zeros(3, 4, device='meta')
    for call in (lambda: ext.nms(elsewhere, elsewhere, 0.5, 0), lambda: ext.nms(boxes=elsewhere, scores=elsewhere)):
        with pytest.raises(MissingOpError, match="its op 'nms' has no replacement for tensors on 'meta'"):
            call()


def test_a_tool_prints_one_line_of_a_missing_op(ext: ModuleType, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as code:
        run_tool(lambda argv: ext.roi_align_forward(torch.zeros(1)))
    assert code.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count('\n') == 1 and re.match("error: mmcv is installed .* 'roi_align_forward' ", printed)


def test_it_says_that_there_is_no_compiler_as_mmcv_does(ext: ModuleType) -> None:
    assert ext.get_compiling_cuda_version() == ext.get_compiler_version() == 'not available'
    assert ext.softnms is ext.softnms and ext.softnms.__name__ == 'softnms'
    with pytest.raises(AttributeError):
        _ = ext.__path__


def test_mmcv_knows_whether_its_ops_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ops_are_compiled()
    assert ext_loader.check_ops_exist() == compiled
    facts = collect_env()
    assert (facts['MMCV Compiler'] == 'not available') == (not compiled) and 'MMCV CUDA Compiler' in facts
    monkeypatch.setattr(mmcv, '__path__', ['/nowhere'])
    assert not ext_loader.check_ops_exist()


@pytest.mark.parametrize('name', sorted({**LIDAR_OPS, **OTHER_OPS}))
def test_every_replaced_op_is_one_that_mmcv_calls(name: str) -> None:
    folder = Path(mmcv.ops.__file__).parent
    callers = [path for path in sorted(folder.glob('*.py')) if re.search(rf'ext_module\.{name}\(', path.read_text())]
    assert callers or name == 'points_in_boxes_cpu_forward'


def test_ops_that_were_compiled_without_cuda_say_so_on_cuda_tensors() -> None:
    class OnCuda:
        device = 'cuda:1'

    def knn_forward(first, second=None):
        return first

    ext = ModuleType('mmcv._ext')
    ext.knn_forward, ext.get_compiling_cuda_version = knn_forward, lambda: 'not available'
    mmcv_ext.name_ops_without_cuda(ext)
    assert ext.knn_forward(3) == 3 and inspect.unwrap(ext.knn_forward) is knn_forward
    with pytest.raises(MissingOpError, match=r"compiled without CUDA, .*'knn_forward'.*'cuda:1'.*MMCV_OPS=1.*nvcc"):
        ext.knn_forward(torch.zeros(1), second=OnCuda())
    # With CUDA nothing changes.
    ext.knn_forward, ext.get_compiling_cuda_version = knn_forward, lambda: '12.4'
    mmcv_ext.name_ops_without_cuda(ext)
    assert ext.knn_forward is knn_forward


def slow_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda k: -scores[k]):
        for k in kept:
            low, high = np.maximum(boxes[i, :2], boxes[k, :2]), np.minimum(boxes[i, 2:], boxes[k, 2:])
            both = np.prod(np.maximum(high - low + offset, 0))
            areas = [np.prod(box[2:] - box[:2] + offset) for box in (boxes[i], boxes[k])]
            if both > threshold * (sum(areas) - both):
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_2d_suppression_is_greedy_and_takes_equal_scores_in_turn(
    ext: ModuleType, offset: int, dtype: torch.dtype
) -> None:
    rng = np.random.default_rng(offset)
    low = rng.integers(0, 30, (150, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 40, (150, 2))], 1)
    # Few different scores, so that many are equal.
    scores = rng.integers(0, 16, 150) / 16
    tensors = torch.from_numpy(boxes).to(dtype), torch.from_numpy(scores).to(dtype)
    for threshold in (0.1, 0.4):
        output = ext.nms(*tensors, iou_threshold=threshold, offset=offset)
        assert output.dtype == torch.int64 and output.tolist() == slow_nms(boxes, scores, threshold, offset)
        assert 10 < len(output) < 140
    assert ext.nms(*(tensor[:0] for tensor in tensors), iou_threshold=0.5, offset=offset).shape == (0,)


def test_a_2d_box_at_the_threshold_stays(ext: ModuleType) -> None:
    boxes, scores = (
        torch.tensor([[0.0, 0, 2, 2], [0, 1, 2, 2], [5, 5, 5, 5], [5, 5, 5, 5]]),
        torch.tensor([4.0, 3, 2, 1]),
    )
    # IoU 0.5; of two boxes without area it is NaN.
    assert ext.nms(boxes, scores, 0.5, 0).tolist() == [0, 1, 2, 3]
    assert ext.nms(boxes, scores, 0.49, 0).tolist() == [0, 2, 3]


@pytest.mark.parametrize('groups, deform_groups, bias', [(1, 1, True), (2, 2, False)])
def test_the_layer_of_mmcv_learns_on_the_cpu(groups: int, deform_groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = mmcv.ops.ModulatedDeformConv2dPack(
        4, 6, 3, stride=2, padding=1, groups=groups, deform_groups=deform_groups, bias=bias
    )
    features = torch.randn(2, 4, 7, 8, requires_grad=True)
    output = layer(features)
    # Its offsets start at zero, its masks at a half.
    wanted = torch.conv2d(features, layer.weight / 2, layer.bias, 2, 1, 1, groups)
    torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-6)
    output.square().sum().backward()
    (grad,) = torch.autograd.grad(wanted.square().sum(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, grad, rtol=1e-4, atol=1e-5)
    assert features.grad.abs().sum() > 0 and layer.conv_offset.weight.grad.abs().sum() > 0
    if not ops_are_compiled():
        # mmcv's own kernel has no bfloat16 on the CPU.
        with torch.autocast('cpu', torch.bfloat16):
            half = layer(features)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), output.detach(), rtol=0.05, atol=0.05)
