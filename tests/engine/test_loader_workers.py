"""Workers of a data loader that die, or cannot send what they made, end the work in one line."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from perception3d.checks import InputError
from perception3d.engine.loader_workers import deaths_in_one_line, look_after_workers
from perception3d.engine.runner import PerceptionRunner


class Unsendable:
    """Fails on its way to the parent, as a batch does for which there is no shared memory."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


class Frames(Dataset):
    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.act()


def first(samples):
    return samples[0]


def fail(error):
    raise error


NO_SPACE = RuntimeError('unable to allocate shared memory(shm): No space left on device (28)')


@pytest.mark.parametrize(
    ('act', 'words'),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), 'was killed, most likely .* for lack of memory'),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), 'no space in the shared memory /dev/shm.* num_workers=0'),
        (lambda: Unsendable(NO_SPACE), 'no space in .* /dev/shm, of which there are .* KB: set num_workers=0'),
        (lambda: Unsendable(TypeError('cannot pickle')), 'worker .* died .*: run with num_workers=0 to see'),
        (lambda: os._exit(3), 'worker .* died .*exit code 3'),
    ],
)
def test_a_worker_that_is_lost_ends_the_work_in_one_line(act, words):
    loader = look_after_workers(DataLoader(Frames(act), num_workers=1, collate_fn=first))
    with pytest.raises(InputError, match=words), deaths_in_one_line():
        list(loader)
    assert not multiprocessing.active_children()


def test_mistakes_in_a_data_set_stay_what_they_are():
    for workers in (0, 1):
        loader = DataLoader(Frames(lambda: fail(RuntimeError('a mistake'))), num_workers=workers)
        with pytest.raises(RuntimeError, match='a mistake') as caught, deaths_in_one_line():
            list(look_after_workers(loader))
        assert type(caught.value) is RuntimeError


def test_the_runner_looks_after_its_loaders_and_keeps_what_a_worker_begins_with():
    settings = dict(num_workers=1, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    loader = PerceptionRunner.build_dataloader(dict(dataset=dict(type=Frames, act=lambda: 1), **settings), seed=0)
    assert loader.worker_init_fn.func.__module__ == 'perception3d.engine.loader_workers'
    assert loader.worker_init_fn.args[0].keywords['seed'] == 0, "mmengine's own"
