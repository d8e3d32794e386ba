"""What models keep between calls: of threads, after errors, in inference mode and in copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from shipped import config_path
from tiny_lidar import DETECTORS, clouds, shrink
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from two_threads import answers_of_two_threads, is_same, meet_at_every_module

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.geometry.grid import VoxelGrid
from perception3d.models.fast_bev.feature_cache import FeatureCache
from perception3d.models.fast_bev.view_transform import FeatureRows, LookupViewTransform
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.inference.winograd import Workspace
from perception3d.models.lidar_det.pillars import Canvas, RowPillarsScatter
from perception3d.registry import MODELS


def _detector(name: str):
    settings = load_config(config_path(name)).model
    shrink(settings, cells=32)
    for part in ('backbone', 'pts_backbone'):
        if 'layer_nums' in settings.get(part, {}):
            settings[part].layer_nums = [1] * len(settings[part].layer_nums)
    torch.manual_seed(0)
    model = MODELS.build(settings).train()
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = 1.0
    # With statistics of their inputs, the layers pass on what is in a cloud.
    with torch.no_grad():
        model(**model.data_preprocessor(clouds(*DETECTORS[name]), True), mode='loss')
    return model.eval()


@pytest.mark.parametrize('name', DETECTORS)
def test_every_lidar_detector_gives_two_threads_the_answers_of_single_calls(name):
    if 'second' in name or 'voxel' in name:
        pytest.importorskip('spconv')
    model = accelerate(_detector(name))

    def ask(step: int):
        batch = clouds(*DETECTORS[name])
        points = batch['inputs']['points'][0][step::4]
        with torch.no_grad():
            return model.test_step({'inputs': {'points': [points]}, 'data_samples': batch['data_samples'][:1]})[0]

    questions = [0, 1, 2, 3, 0, 1], [3, 2, 1, 0, 3, 2]
    expected = {step: ask(step) for step in questions[0]}
    assert not any(is_same(expected[a], expected[b]) for a, b in zip(*questions, strict=True))
    meet_at_every_module(model)
    for asked, answers in zip(questions, answers_of_two_threads(ask, *questions), strict=True):
        assert all(is_same(expected[step], answer) for step, answer in zip(asked, answers, strict=True))


def test_threads_share_the_features_of_images():
    cache = FeatureCache(capacity=3)

    def ask(number: int) -> bool:
        images = torch.full((1, 2, 3, 2, 2), float(number))
        images[0, 1] += 1
        (rows,) = cache.rows(images, [[str(number), str(number + 1)]], 1, lambda x: [x * 2])
        return rows.rows[:, 0].unique().tolist() == [2.0 * number, 2.0 * number + 2]

    # Two images a call, five in all: most calls find one and push others out.
    questions = [k % 4 for k in range(400)]
    assert all(map(all, answers_of_two_threads(ask, questions, questions[::-1])))
    assert 5 <= cache.computed < 1600
    assert (copy.deepcopy(cache).capacity, copy.deepcopy(cache).computed) == (3, 0)


GRID = VoxelGrid((-4, -4, -1, 4, 4, 1), (8, 8, 2))


def _lift(transform: LookupViewTransform, shift: float, cameras: int = 1) -> Tensor:
    """A map of one frame whose camera looks down on the grid, `shift` pixels aside."""
    maps = torch.arange(1.0, 65).view(1, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    projection = np.array([[1.0, 0, 0, 4 + shift], [0, 1, 0, 4], [0, 0, 0, 1], [0, 0, 0, 1]])
    matrices = np.tile(projection, (1, 1, cameras, 1, 1))
    return transform([FeatureRows.from_maps(maps, 1, 1)], matrices, (8, 8))


def test_a_table_that_could_not_be_made_is_made_again(monkeypatch):
    from perception3d.models.fast_bev import view_transform

    transform = LookupViewTransform(GRID).eval()
    with torch.no_grad():
        first, expected = _lift(transform, 0).clone(), _lift(LookupViewTransform(GRID).eval(), 1)

        def fail(*args):
            args[-1].fill_(-1)
            raise InputError('interrupted')

        with monkeypatch.context() as patch:
            patch.setattr(view_transform, 'build_frames_lut', fail)
            with pytest.raises(InputError):
                _lift(transform, 1)
        assert torch.equal(_lift(transform, 1), expected) and not torch.equal(first, expected)


def test_a_map_that_could_not_be_filled_is_not_kept():
    scatter = RowPillarsScatter(in_channels=2, output_shape=[4, 4]).eval()
    scatter.prepare_for_inference()
    ones, inside, of_another_sample = (
        torch.ones(2, 2),
        torch.tensor([[0, 0, 1, 1], [0, 0, 2, 2]]),
        torch.tensor([3, 0, 1, 1]),
    )
    with torch.no_grad():
        kept = scatter(ones, inside, 1)
        assert scatter(ones, inside.flip(0), 1).data_ptr() == kept.data_ptr()
        with pytest.raises((IndexError, RuntimeError, InputError)):
            scatter(ones, torch.stack([inside[0], of_another_sample]), 1)
        assert scatter(ones[:1], inside[1:], 1).sum() == 2


def test_a_map_with_gradients_is_not_kept():
    canvas, features = Canvas(), torch.ones(1, 3, requires_grad=True)
    canvas.keeps = True
    for _ in range(2):
        rows = canvas.cleared(features, 5, 3)
        assert not rows.requires_grad and not rows.any()
        rows[torch.tensor([2])] = features
        canvas.keep(rows, torch.tensor([2]))


@pytest.mark.parametrize('name', ['point_pillars_secfpn_160e_kitti', 'second_secfpn_80e_kitti'])
def test_memory_of_inference_mode_serves_calls_outside_of_it(name):
    if 'second' in name:
        pytest.importorskip('spconv')
    model = accelerate(_detector(name))

    def ask() -> list:
        return model.test_step(clouds(*DETECTORS[name]))

    with torch.inference_mode():
        expected = ask()
    with torch.no_grad():
        assert all(map(is_same, ask(), expected))
    # Without either: a prepared model needs no gradients.
    assert all(map(is_same, ask(), expected))


def test_copies_start_without_the_memory_of_the_original():
    workspace = Workspace()
    workspace.take('patches', 8)
    first, second = copy.deepcopy([workspace, workspace])
    assert first is second and not first._parts and workspace._parts.keys() == {'patches'}
    assert not pickle.loads(pickle.dumps(workspace))._parts
