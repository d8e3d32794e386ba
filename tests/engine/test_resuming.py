"""Resumed trainings: with other settings, in a folder that was copied or damaged, and after a kill while saving."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import traceback
from pathlib import Path

import pytest
import torch
from free_port import free_port
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import find_latest_checkpoint

from perception3d.apis.config import load_config
from perception3d.apis.option_texts import parse_options
from perception3d.apis.runner import build_runner, checkpoints_to_replace
from perception3d.apis.training import train
from perception3d.checkpoint_files import demo_checkpoint
from perception3d.checks import InputError
from perception3d.engine import resuming
from perception3d.engine.checkpoint_hook import WholeCheckpointHook
from perception3d.engine.reproducible import ResumableSampler
from perception3d.experiment.plan import Cell
from perception3d.experiment.records import CellFolder
from perception3d.locks import folder_lock
from perception3d.training_folder import latest_checkpoint, pointed_checkpoint, write_pointer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'tests' / 'plugin' / 'plugin_config.py'
# 24 samples in batches of 4 are 6 iterations an epoch.
BASE = ['custom_hooks=[]', '+log_level=WARNING', '+model.dropout=0.0']
BY_EPOCH = [*BASE, 'default_hooks.checkpoint.by_epoch=True', 'default_hooks.checkpoint.interval=1']
KEEP_ALL = 'default_hooks.checkpoint.max_keep_ckpts=99'


def schedule(end, by_epoch=True):
    settings = dict(type='CosineAnnealingLR', eta_min=0.001, by_epoch=by_epoch, begin=0, end=end)
    return f'param_scheduler={[dict(settings, convert_to_iter_based=True) if by_epoch else settings]}'


def run(folder, *options, base=BY_EPOCH, **settings):
    return train(str(CONFIG), [*base, *options], work_dir=str(folder), **settings)


def content(path):
    return torch.load(path, weights_only=False)


def same_weights(one, two):
    one, two = content(one)['state_dict'], content(two)['state_dict']
    return all(torch.equal(one[name], value) for name, value in two.items())


def draws(runner):
    """How many samples a training has loaded."""
    return runner.train_dataloader.dataset.dataset.draws


def logged(runner):
    (log,) = Path(runner.log_dir).glob('*.log')
    return log.read_text()


@pytest.fixture(scope='module')
def epochs(tmp_path_factory):
    """A folder with the checkpoints of the first two epochs of four. Read only."""
    folder = tmp_path_factory.mktemp('epochs')
    run(folder, schedule(4), KEEP_ALL, 'train_cfg.max_epochs=2')
    return folder


@pytest.fixture(scope='module')
def middle(tmp_path_factory):
    """A folder with the checkpoint of iteration 8: a third of the second epoch is done. Read only."""
    folder = tmp_path_factory.mktemp('middle')
    run(folder, schedule(4), KEEP_ALL, 'default_hooks.checkpoint.interval=8', 'train_cfg.max_epochs=2', base=BASE)
    (folder / 'iter_12.pth').unlink()
    (folder / 'last_checkpoint').write_text('iter_8.pth')
    return folder


@pytest.fixture
def copy(epochs, tmp_path):
    return Path(shutil.copytree(epochs, tmp_path / 'copy'))


@pytest.mark.parametrize(('batch', 'length'), [(1, 24), (3, 8), (5, 5), (24, 1)])
def test_another_batch_size_trains_the_epochs_that_are_left(copy, epochs, batch, length):
    runner = run(copy, schedule(4), f'train_dataloader.batch_size={batch}', resume=True)
    last = content(copy / 'epoch_4.pth')
    assert (last['meta']['epoch'], last['meta']['iter'], runner.max_iters) == (4, 4 * length, 4 * length)
    assert draws(runner) == 2 * 24 and not same_weights(copy / 'epoch_4.pth', epochs / 'epoch_2.pth')
    # The learning rate ends where a training in one go ends.
    (state,) = last['param_schedulers']
    whole = run(copy.parent / 'whole', schedule(4), f'train_dataloader.batch_size={batch}')
    assert whole.optim_wrapper.param_groups[0]['lr'] == runner.optim_wrapper.param_groups[0]['lr']
    assert (state['end'], state['last_step']) == (whole.param_schedulers[0].end, whole.param_schedulers[0].last_step)


def test_the_rest_of_an_epoch_is_trained_with_another_batch_size(middle, tmp_path):
    folder = Path(shutil.copytree(middle, tmp_path / 'copy'))
    runner = run(
        folder, schedule(4), KEEP_ALL, 'train_dataloader.batch_size=3', 'default_hooks.checkpoint.interval=1',
        resume=True, base=BASE,
    )  # fmt: skip
    # 8 of 24 samples of epoch 2 are done: 6 batches of 3 are left of it, from its third on.
    assert draws(runner) == 16 + 2 * 24
    assert content(folder / 'iter_11.pth')['meta']['place']['samples'] == 8 + 3
    assert content(folder / 'iter_32.pth')['meta']['epoch'] == 3
    assert 'batch size 4 before, 3 now' in logged(runner) and 'from its sample 8 of 24 on' in logged(runner)


def test_the_same_settings_in_the_middle_of_an_epoch_end_with_the_same_bits(middle, epochs, tmp_path):
    folder = Path(shutil.copytree(middle, tmp_path / 'copy'))
    run(folder, schedule(4), 'train_cfg.max_epochs=2', resume=True, base=BASE)
    assert same_weights(folder / 'iter_12.pth', epochs / 'epoch_2.pth')


def forked(number, function):
    """Runs `function` in processes that torchrun might have started, and returns their exit codes."""
    children, port = [], free_port()
    for rank in range(number):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=number, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
                os.environ.update({name: str(value) for name, value in names.items()})
                function()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.skipif(torch.cuda.is_available(), reason='a forked process cannot use a GPU')
def test_one_process_resumes_what_two_have_begun_and_two_what_one_has(middle, epochs, tmp_path):
    options = [schedule(4), 'train_cfg.max_epochs=2']
    half = ['train_dataloader.batch_size=2']
    begun, back = tmp_path / 'begun', Path(shutil.copytree(middle, tmp_path / 'back'))
    by_8 = [*options, *half, KEEP_ALL, 'default_hooks.checkpoint.interval=8']
    assert forked(2, lambda: run(begun, *by_8, base=BASE, launcher='pytorch')) == [0, 0]
    (begun / 'iter_12.pth').unlink()
    runner = run(begun, *options, resume=True, base=BASE)
    assert draws(runner) == 16 and 'processes 2 before, 1 now' in logged(runner)
    resumed = [*options, *half]
    assert forked(2, lambda: run(back, *resumed, base=BASE, launcher='pytorch', resume=True)) == [0, 0]
    # Both took the steps of the run of one process that nobody stopped.
    whole = content(epochs / 'epoch_2.pth')['state_dict']
    for folder in (begun, back):
        for name, value in content(folder / 'iter_12.pth')['state_dict'].items():
            torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-5)
    # 16 samples are left of the epoch, 8 for each process: three batches of 3 or less, then whole epochs.
    uneven = ['train_dataloader.batch_size=3', schedule(4), 'train_cfg.max_epochs=3']
    folder = Path(shutil.copytree(middle, tmp_path / 'uneven'))
    assert forked(2, lambda: run(folder, *uneven, base=BASE, launcher='pytorch', resume=True)) == [0, 0]
    assert content(folder / 'iter_12.pth')['meta']['place']['samples'] == 24


def test_processes_take_turns_in_one_order_wherever_they_begin():
    def drawn(world, start, length=11):
        passes = []
        for rank in range(world):
            sampler = ResumableSampler(range(length), seed=3)
            sampler.rank, sampler.world_size, sampler.epoch = rank, world, 2
            sampler.begin_at(start)
            passes.append(list(sampler))
            assert len(passes[-1]) == sampler.left(start)
            assert start or passes[-1] == list(sampler), 'only the next pass is shortened'
        return passes

    (order,) = drawn(1, 0)
    assert sorted(order) == list(range(11)) and order != list(range(11))
    for world in (1, 2, 3):
        for start in range(12):
            shares = drawn(world, start)
            turns = [share[turn] for turn in range(len(shares[0])) for share in shares]
            assert len({len(share) for share in shares}) == 1, 'no process waits for another'
            assert turns[: 11 - start] == order[start:] and len(turns) < 11 - start + world
            assert all(draw.place[2] == start + place for place, draw in enumerate(turns[: 11 - start]))


@pytest.mark.parametrize('length', [12, 30])
def test_another_size_of_the_data_set_is_reported_and_trained(copy, length):
    runner = run(copy, schedule(4), f'+train_dataloader.dataset.length={length}', resume=True)
    assert draws(runner) == 2 * length and content(copy / 'epoch_4.pth')['meta']['epoch'] == 4
    assert f'samples of the data set 24 before, {length} now' in logged(runner)


def test_other_classes_are_refused(copy):
    changed = content(copy / 'epoch_2.pth')
    changed['meta']['dataset_meta'] = {'classes': ('car', 'blob')}
    torch.save(changed, copy / 'epoch_2.pth')
    with pytest.raises(
        InputError, match='was trained for the classes car, blob, but the data set has blob.*cannot be resumed'
    ):
        run(copy, schedule(4), resume=True)


def test_schedules_follow_the_config_of_the_resumed_run(copy, monkeypatch):
    monkeypatch.setattr(resuming, '_MANY_STEPS', 11)
    # As in a training of six epochs from the beginning, not the old one's last value for ever.
    runner = run(copy, schedule(6), 'train_cfg.max_epochs=3', resume=True)
    whole = run(copy.parent / 'whole', schedule(6), 'train_cfg.max_epochs=3')
    assert runner.optim_wrapper.param_groups[0]['lr'] == whole.optim_wrapper.param_groups[0]['lr'] > 0.04
    assert 'are set to what the config gives in iteration 12 of 18' in logged(runner)
    assert 'to iteration 12: every step before it is repeated' in logged(runner)


def test_another_learning_rate_is_reported(copy):
    runner = run(copy, schedule(4), 'optim_wrapper.optimizer.lr=0.2', 'train_cfg.max_epochs=3', resume=True)
    assert 'rate of the config, 0.2, is not that of the checkpoint, 0.1: the resumed training keeps' in logged(runner)


def test_a_schedule_of_scores_is_not_guessed(copy):
    plateau = "{'type': 'ReduceOnPlateauLR', 'monitor': 'loss', 'begin': 0, 'end': 4}"
    both = schedule(4)[:-1] + f', {plateau}]'
    with pytest.raises(InputError, match='depends on validation scores'):
        run(copy, both, 'train_dataloader.batch_size=3', resume=True)


def test_a_checkpoint_without_its_place_is_resumed_where_that_is_sure(copy):
    for name in ('epoch_2.pth', 'iter_12.pth'):
        changed = content(copy / 'epoch_2.pth')
        changed['meta'].pop('place', None)
        # A text that mmengine would run as Python.
        changed['meta']['config'] = f'import os\nos.mkdir({str(copy / "ran")!r})'
        torch.save(changed, copy / name)
    runner = run(copy, schedule(4), 'train_dataloader.batch_size=3', resume=str(copy / 'epoch_2.pth'))
    assert draws(runner) == 2 * 24 and not (copy / 'ran').exists()
    with pytest.raises(InputError, match='was written after 12 iterations, in epoch 3, and an epoch has 24 iterations'):
        run(copy, schedule(4), 'train_dataloader.batch_size=1', resume=str(copy / 'iter_12.pth'), overwrite=True)
    changed['meta']['place'] = {'samples': -1}
    torch.save(changed, copy / 'iter_12.pth')
    with pytest.raises(InputError, match='iter_12.pth holds no valid position within its epoch'):
        run(copy, schedule(4), resume=str(copy / 'iter_12.pth'), overwrite=True)


def test_a_copied_or_renamed_folder_is_resumed_from_itself(epochs, tmp_path, capsys):
    for name, pointer in {'relative': 'epoch_2.pth', 'absolute': f'{epochs}/epoch_2.pth\n'}.items():
        folder = Path(shutil.copytree(epochs, tmp_path / name))
        (folder / 'last_checkpoint').write_text(pointer)
        assert find_latest_checkpoint(str(folder)) == str(folder / 'epoch_2.pth')
        run(folder, schedule(4), 'train_cfg.max_epochs=3', resume=True)
        assert f'resuming from {folder}/epoch_2.pth\n' in capsys.readouterr().out
        assert (folder / 'last_checkpoint').read_text() == 'epoch_3.pth' and (folder / 'epoch_3.pth').is_file()
    assert not (epochs / 'epoch_3.pth').exists()


@pytest.mark.parametrize('damage', ['lost', 'dangling', 'cut', 'binary'])
def test_a_lost_pointer_or_a_damaged_checkpoint_falls_back_to_the_newest_complete_one(copy, damage):
    pointer, newest = copy / 'last_checkpoint', copy / 'epoch_2.pth'
    expected = newest
    if damage == 'lost':
        pointer.unlink()
    elif damage == 'dangling':
        pointer.write_text('epoch_7.pth')
    elif damage == 'binary':
        pointer.write_bytes(b'\xff\xfe')
    else:
        newest.write_bytes(newest.read_bytes()[:2000])
        expected = copy / 'epoch_1.pth'
    # Weights alone, and the best ones, are nothing to resume from.
    torch.save({'state_dict': {}}, copy / 'epoch_9.pth')
    lines = []
    assert latest_checkpoint(copy, report=lines.append) == expected
    assert len(lines) == 1 and expected.name in lines[0]


def test_with_resume_a_training_never_starts_over(copy, tmp_path):
    before = {path.name: path.read_bytes() for path in copy.glob('*.pth')}
    for path in copy.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:2000])
    for folder in (copy, tmp_path / 'new'):
        with pytest.raises(InputError, match='holds no complete checkpoint of a training: begin one with --overwrite'):
            run(folder, schedule(4), resume=True)
        with pytest.raises(InputError, match='holds no complete checkpoint'):
            run(folder, schedule(4), '+resume=True')
    assert all(path.read_bytes() == before[path.name][:2000] for path in copy.glob('*.pth'))


def test_checkpoints_are_overwritten_only_when_asked_for(copy, epochs, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    names = sorted(path.name for path in copy.iterdir())
    words = (
        'holds checkpoints of a training .*: continue it with --resume, replace it with --overwrite, or give another'
    )
    with pytest.raises(InputError, match=words):
        run(copy, schedule(4))
    with pytest.raises(
        InputError, match='and --resume .*/epoch_1.pth is not one of them: add --overwrite .* --work-dir'
    ):
        run(copy, schedule(4), resume=str(epochs / 'epoch_1.pth'))
    with pytest.raises(InputError, match='give one of the two'):
        run(copy, schedule(4), resume=True, overwrite=True)
    assert sorted(path.name for path in copy.iterdir()) == names

    for name in ('notes.txt', 'pretrained.pth', 'best_x_epoch_1.pth', 'epoch_2-1a2b3c4d.pth'):
        (copy / name).write_text(name)
    # The old ones stay until there is a new one; from then on they can no longer be resumed by mistake.
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(OptimWrapper, 'update_params', fail)
        run(copy, schedule(4), overwrite=True)
    assert {'epoch_1.pth', 'epoch_2.pth'} <= {path.name for path in copy.iterdir()}
    assert latest_checkpoint(copy) is None and pointed_checkpoint(copy) is None
    runner = run(copy, schedule(4), 'train_cfg.max_epochs=1', overwrite=True)
    assert draws(runner) == 24
    assert {path.name for path in copy.glob('*.pth')} == {'epoch_1.pth', 'pretrained.pth', 'epoch_2-1a2b3c4d.pth'}
    assert (copy / 'notes.txt').is_file() and pointed_checkpoint(copy) == copy / 'epoch_1.pth'


def test_best_checkpoints_alone_are_replaced_not_resumed(copy, tmp_path):
    (copy / 'epoch_1.pth').unlink()
    best = content(copy / 'epoch_2.pth')
    del best['optimizer']
    torch.save(best, copy / 'best_x_epoch_2.pth')
    (copy / 'epoch_2.pth').unlink()
    (copy / 'last_checkpoint').unlink()
    folder = CellFolder(tmp_path, Cell('arm', 0, ()))
    folder.work = copy
    assert latest_checkpoint(copy) is None and not folder.can_resume() and folder.start_options() == ['--overwrite']
    with pytest.raises(InputError, match='none can be resumed: replace them with --overwrite') as error:
        checkpoints_to_replace(copy, False, False)
    assert '--resume' not in str(error.value)
    assert checkpoints_to_replace(copy, False, True) == [copy / 'best_x_epoch_2.pth']


def test_a_cell_that_was_to_be_overwritten_begins_again(copy, tmp_path):
    folder = CellFolder(tmp_path, Cell('arm', 0, ()))
    assert folder.start_options() == []
    folder.work = copy
    assert folder.start_options() == ['--resume']
    write_pointer(copy, None)
    assert folder.start_options() == ['--overwrite']
    with pytest.raises(InputError, match='none can be resumed: replace them with --overwrite'):
        checkpoints_to_replace(copy, False, False)


def test_an_earlier_checkpoint_is_resumed_over_later_ones_only_when_asked_for(copy, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    first, second = copy / 'epoch_1.pth', copy / 'epoch_2.pth'
    before = second.read_bytes()
    for path in (first, str(first)):
        with pytest.raises(InputError, match=r'further than --resume .*epoch_1.pth \(epoch_2.pth\): add --overwrite'):
            run(copy, schedule(4), resume=path)
    assert second.read_bytes() == before and checkpoints_to_replace(copy, second, False) == []
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(OptimWrapper, 'update_params', fail)
        run(copy, schedule(4), resume=first, overwrite=True)
    # Until there is a new one, the training can be resumed from where this one began.
    assert latest_checkpoint(copy) == first and second.read_bytes() == before
    torch.save(content(second), copy / 'epoch_9.pth')
    assert draws(run(copy, schedule(4), 'train_cfg.max_epochs=2', resume=first, overwrite=True)) == 24
    assert {path.name for path in copy.glob('*.pth')} == {'epoch_1.pth', 'epoch_2.pth'}
    assert latest_checkpoint(copy) == second


def test_checkpoints_with_names_of_the_config_are_found_without_the_pointer(copy):
    for path in copy.glob('*.pth'):
        path.rename(copy / f'net-{path.stem[-1]}-full.pth')
    (copy / 'last_checkpoint').unlink()
    shutil.copy(copy / 'net-1-full.pth', copy / 'copy_of_a_person.pth')
    assert latest_checkpoint(copy) == copy / 'net-2-full.pth'
    with pytest.raises(InputError, match='continue it with --resume'):
        checkpoints_to_replace(copy, False, False)
    # What a person has named is not removed.
    names = [path.name for path in checkpoints_to_replace(copy, False, True, 'net-{:d}-full.pth')]
    assert names == ['net-1-full.pth', 'net-2-full.pth']


def test_a_runner_resumes_the_path_that_it_is_given_and_what_its_config_says(copy):
    def load_from(*options, **settings):
        return build_runner(load_config(str(CONFIG), parse_options([*BY_EPOCH, *options])), copy, **settings)._load_from

    assert load_from(resume=copy / 'epoch_1.pth') == str(copy / 'epoch_1.pth')
    assert load_from('+resume=True') == str(copy / 'epoch_2.pth')
    assert load_from('+resume=True', f'+load_from={copy}/epoch_1.pth') == str(copy / 'epoch_1.pth')
    assert load_from('+load_from=demo') == str(demo_checkpoint())
    write_pointer(copy, None)
    with pytest.raises(InputError, match='holds no complete checkpoint'):
        load_from('+resume=True')


def test_work_folders_of_one_name_do_not_replace_each_others_checkpoints(tmp_path):
    options = [f'+default_hooks.checkpoint.out_dir={tmp_path / "saved"}', 'train_cfg.max_epochs=1', schedule(1)]
    run(tmp_path / 'one' / 'run', *options)
    path = tmp_path / 'saved' / 'run' / 'epoch_1.pth'
    before = path.read_bytes()
    with pytest.raises(InputError, match='saved/run holds checkpoints of a training .*--overwrite'):
        run(tmp_path / 'two' / 'run', *options)
    assert path.read_bytes() == before
    run(tmp_path / 'two' / 'run', *options, overwrite=True)
    assert path.is_file()


class Saving:
    """A training of one epoch that keeps one checkpoint and the best one, and can save the next one."""

    def __init__(self, folder):
        best = ['+default_hooks.checkpoint.save_best=error', '+default_hooks.checkpoint.rule=less']
        self.runner = run(folder, 'default_hooks.checkpoint.max_keep_ckpts=1', 'train_cfg.max_epochs=1', *best)
        (self.hook,) = [hook for hook in self.runner.hooks if isinstance(hook, CheckpointHook)]
        self.hook._save_best_checkpoint(self.runner, {'error': 3.0})

    def save_next(self, folder):
        """Saves epoch 2, and the best one after it, into `folder`."""
        self.hook.out_dir = self.runner._work_dir = str(folder)
        for key, path in self.hook._best().items():
            self.hook._set_best(key, str(folder / Path(path).name))
        self.runner.train_loop._epoch, self.runner.train_loop._iter = 1, 12
        self.hook._save_checkpoint(self.runner)
        self.runner.train_loop._epoch = 2
        self.hook._save_best_checkpoint(self.runner, {'error': 2.0})


@pytest.fixture(scope='module')
def saving(tmp_path_factory):
    return Saving(tmp_path_factory.mktemp('saving') / 'work')


def names(folder):
    """The checkpoints and what belongs to them, also half-written; the lock of the folder stays in it, empty."""
    files = {path.name for path in folder.iterdir() if path.is_file() and path.suffix in ('.pth', '')}
    return files - {'.lock'}


def stop_at(step, how):
    """Makes each change of the disk a step; calls `how` before number `step`, amid it where bytes are written."""
    count = iter(range(step + 1))

    def reach():
        if next(count, None) == step:
            how()

    def around(function):
        def wrapped(*args, **kwargs):
            reach()
            return function(*args, **kwargs)

        return wrapped

    def put(self, content, path):
        Path(path).write_bytes(content[: len(content) // 2])
        reach()
        Path(path).write_bytes(content)

    patched = [(os, name, around(getattr(os, name))) for name in ('replace', 'fsync', 'unlink')]
    return [*patched, (LocalBackend, 'put', put)]


def resumable(folder):
    """Checks what a folder must hold at any time; returns the epoch to resume from."""
    newest = latest_checkpoint(folder)
    assert newest is not None and newest == pointed_checkpoint(folder), 'the pointer names a complete checkpoint'
    best = [path for path in folder.glob('best_*.pth') if content(path)['state_dict']]
    assert best, 'there is a complete best checkpoint'
    return content(newest)['meta']['epoch']


@pytest.mark.skipif(torch.cuda.is_available(), reason='a forked process cannot use a GPU')
def test_a_kill_at_any_moment_leaves_a_complete_checkpoint_that_the_pointer_names(saving, tmp_path):
    epochs, steps = [], 0
    while True:
        folder = Path(shutil.copytree(saving.runner.work_dir, tmp_path / f'step_{steps}'))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for owner, name, function in stop_at(steps, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                    setattr(owner, name, function)
                saving.save_next(folder)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        epochs.append(resumable(folder))
        if status == 0:
            break
        steps += 1
    assert epochs == sorted(epochs) and set(epochs) == {1, 2} and steps > 15
    assert names(folder) == {'epoch_2.pth', 'best_error_epoch_2.pth', 'last_checkpoint'}
    # The next start removes what a killed one has left: half a file, and a checkpoint that was to go.
    left = [path for path in tmp_path.glob('step_*') if len(names(path)) > 3]
    assert any(name.startswith('.') for path in left for name in names(path))
    for folder in (left[0], left[-1]):
        run(folder, 'default_hooks.checkpoint.max_keep_ckpts=1', 'train_cfg.max_epochs=2', resume=True)
        assert {name for name in names(folder) if 'best' not in name} == {'epoch_2.pth', 'last_checkpoint'}


def test_a_full_disk_while_saving_keeps_the_old_checkpoint(saving, tmp_path, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, 'No space left on device')

    folder = Path(shutil.copytree(saving.runner.work_dir, tmp_path / 'full'))
    before = names(folder)
    with monkeypatch.context() as patch, pytest.raises(OSError, match='No space left'):
        for change in stop_at(0, full):
            patch.setattr(*change)
        saving.save_next(folder)
    assert names(folder) == before and resumable(folder) == 1


def test_best_and_published_checkpoints_stay_in_a_copied_folder(saving, tmp_path):
    folder = Path(shutil.copytree(saving.runner.work_dir, tmp_path / 'copy'))
    original = names(Path(saving.runner.work_dir))
    best = ['+default_hooks.checkpoint.save_best=error', '+default_hooks.checkpoint.rule=less']
    published = "+default_hooks.checkpoint.published_keys=('meta', 'state_dict')"
    runner = run(folder, *best, published, 'train_cfg.max_epochs=2', resume=True)
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, WholeCheckpointHook)]
    assert hook.best_ckpt_path == str(folder / 'best_error_epoch_1.pth')
    hook._save_best_checkpoint(runner, {'error': 1.0})
    assert [path.name for path in folder.glob('best_*h_?.pth')] == ['best_error_epoch_2.pth']
    assert names(Path(saving.runner.work_dir)) == original
    (file,) = folder.glob('epoch_2-????????.pth')
    assert content(file).keys() == {'meta', 'state_dict'}


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    with folder_lock(tmp_path), pytest.raises(InputError, match=f'{tmp_path} is being trained in by process'):
        run(tmp_path)
    assert not list(tmp_path.glob('*.pth'))


def test_a_config_that_names_mmengines_hook_gets_ours(saving):
    assert type(saving.hook) is WholeCheckpointHook
    types = ["'CheckpointHook'", "'mmengine.CheckpointHook'"]
    assert all(f'type={name}' not in saving.runner.cfg.pretty_text for name in types[1:])


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_an_optimizer_that_is_not_finite_is_not_resumed(copy, value):
    path = copy / 'epoch_2.pth'
    saved = content(path)
    number, state = next(iter(saved['optimizer']['state'].items()))
    key = next(key for key, item in state.items() if torch.is_tensor(item) and item.numel() > 1)
    state[key].view(-1)[0] = value
    torch.save(saved, path)
    with pytest.raises(InputError, match=f'optimizer.state.{number}.{key} holds NaN or infinite values'):
        run(copy, schedule(4), resume=True)


def test_weights_that_are_not_finite_are_not_saved(epochs, tmp_path):
    runner = build_runner(load_config(str(CONFIG), parse_options([*BASE, *BY_EPOCH])), work_dir=str(tmp_path))
    weights_alone = dict(save_optimizer=False, save_param_scheduler=False)
    name, weight = next(iter(runner.model.named_parameters()))
    runner.save_checkpoint(str(tmp_path), 'a.pth', **weights_alone)
    before = (tmp_path / 'a.pth').read_bytes()
    with torch.no_grad():
        weight.view(-1)[0] = float('nan')
    with pytest.raises(InputError, match=f'training has diverged: the tensor {name} '):
        runner.save_checkpoint(str(tmp_path), 'a.pth', **weights_alone)
    assert (tmp_path / 'a.pth').read_bytes() == before and not list(tmp_path.glob('.*.pth'))
