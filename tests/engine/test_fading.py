from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, Compose, RepeatDataset
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.engine.fading import FadeObjectSampleHook
from perception3d.engine.reproducible import SeededDataset


class _Paste:
    disabled = False

    def __call__(self, sample):
        return {'pasted': int(not self.disabled)}


class _Frames(BaseDataset):
    def load_data_list(self):
        return [{}] * 4


def _loader(steps, workers):
    frames = _Frames(pipeline=[], lazy_init=False)
    frames.pipeline = Compose(steps)
    dataset = SeededDataset(RepeatDataset(frames, times=2))
    keep = dict(persistent_workers=True, multiprocessing_context='fork') if workers else {}
    return torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=workers, **keep)


@pytest.mark.parametrize('workers', [0, 1])
def test_the_last_epochs_have_no_pasted_objects_also_after_a_resume_and_in_workers_that_live_on(workers):
    loader = _loader([_Paste()], workers)
    hook = FadeObjectSampleHook(last_epochs=2)
    seen = []
    # Two epochs, and a run that was resumed after the switch, then a new one.
    for epoch in (0, 2, 3, 4, 1):
        runner = SimpleNamespace(train_dataloader=loader, epoch=epoch, max_epochs=5, logger=logging.getLogger('fade'))
        hook.before_train_epoch(runner)
        seen.append({value for batch in loader for value in batch['pasted'].tolist()})
    assert seen == [{1}, {1}, {0}, {0}, {1}]


@pytest.mark.parametrize(
    ('name', 'share'),
    [
        ('point_pillars_tiny_10e_kitti_sim', 5),
        ('center_point_pillar_cyclic20e_nuscenes', 4),
        ('center_point_voxel_cyclic20e_nuscenes', 4),
    ],
)
def test_a_training_of_few_epochs_pastes_objects_in_all_of_them(name: str, share: int):
    config = load_config(config_path(name), {'max_epochs': share - 1})
    settings = next(hook for hook in config.custom_hooks if hook['type'] is FadeObjectSampleHook)
    hook, step, log = FadeObjectSampleHook(settings['last_epochs']), _Paste(), logging.getLogger('fade')
    loader = _loader([step], 0)
    for epoch in range(share - 1):
        runner = SimpleNamespace(train_dataloader=loader, epoch=epoch, max_epochs=share - 1, logger=log)
        hook.before_train_epoch(runner)
        assert not step.disabled


def test_a_pipeline_that_pastes_nothing_is_an_error():
    runner = SimpleNamespace(train_dataloader=_loader([], 0), epoch=0, max_epochs=5, logger=logging.getLogger('fade'))
    with pytest.raises(InputError, match='no step of the training pipeline pastes'):
        FadeObjectSampleHook().before_train_epoch(runner)
    with pytest.raises(InputError, match='last_epochs=-1: give 0'):
        FadeObjectSampleHook(-1)
