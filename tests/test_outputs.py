"""Names from data that stay in their folder, checks before the work, what the system refuses, locks, and workers."""

from __future__ import annotations

import errno
import io
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from two_threads import answers_of_two_threads

from perception3d import files
from perception3d.apis.cli import run_tool
from perception3d.checks import InputError
from perception3d.locks import folder_lock
from perception3d.outputs import OutputNames, check_outputs, require_name, safe_name, system_error
from perception3d.training_folder import write_pointer
from perception3d.visualization.video import write_video
from perception3d.workers import end_with_parent, process_pool


@pytest.fixture(autouse=True)
def log_errors(monkeypatch):
    monkeypatch.setattr(logging, 'raiseExceptions', True)


@pytest.mark.parametrize(
    ('name', 'file_name'),
    [
        ('1715251204.100000', '1715251204.100000'),
        ('n015-2018__LIDAR_TOP__153', 'n015-2018__LIDAR_TOP__153'),
        ('../outside', '___outside'),
        ('/etc/passwd', '_etc_passwd'),
        ('C:\\x\x00y', 'C_x_y'),
        ('..', '__'),
        ('.hidden', '_hidden'),
        ('-rf', '_rf'),
        ('con', '_con'),
        ('NUL.0', '_NUL.0'),
        ('Zürich', 'Zürich'),
        ('\udcff', '_'),
        ('', 'frame'),
        (7, '7'),
    ],
)
def test_a_name_from_data_stays_in_its_folder(tmp_path, name, file_name):
    assert safe_name(name, 'frame') == file_name
    (path,) = OutputNames(tmp_path).paths(name, ['.png'], default='frame')
    path.touch()
    assert [p.name for p in tmp_path.iterdir()] == [f'{file_name}.png']


def test_long_names_are_cut_and_stay_apart():
    first, second = safe_name('ü' * 300 + 'a'), safe_name('ü' * 300 + 'b')
    assert first != second and max(len(first.encode()), len(second.encode())) <= 120
    assert safe_name('x' * 120) == 'x' * 120


def test_equal_names_get_numbers_and_the_same_frame_the_same_name(tmp_path):
    names = OutputNames(tmp_path)

    def stem(name, source=None, keep=()):
        paths = names.paths(name, ('.png', '.json'), source, keep)
        assert len({path.parent / path.name.removesuffix(path.suffix) for path in paths}) == 1
        return paths[0].name.removesuffix('.png')

    assert stem('a', 'one') == 'a' and stem('a', 'two') == 'a_2' and stem('a', 'one') == 'a'
    assert stem('A') == 'A_3', 'the same name on some file systems'
    assert stem('b_2') == 'b_2' and stem('b') == 'b' and stem('b') == 'b_3'
    assert stem('x/y') == 'x_y' and stem('x_y') == 'x_y_2'
    # A frame that lies where its result would go.
    (tmp_path / 'link').symlink_to(tmp_path)
    assert stem('in', keep=[tmp_path / 'link' / 'in.json']) == 'in_2'


def test_two_threads_never_get_the_same_path(tmp_path, monkeypatch):
    barrier, realpath = threading.Barrier(2), os.path.realpath

    def meet(path):
        # The system call lets the other thread run: both may be here before one has taken a name.
        with suppress(threading.BrokenBarrierError):
            barrier.wait(timeout=0.05)
        return realpath(path)

    names = OutputNames(tmp_path)
    monkeypatch.setattr('perception3d.outputs.os.path.realpath', meet)
    given = answers_of_two_threads(lambda source: names.paths('a', ['.png'], source, ['in'])[0].name, 'bc', 'de')
    assert sorted(sum(given, [])) == ['a.png', 'a_2.png', 'a_3.png', 'a_4.png']


@pytest.mark.parametrize(
    'name', ['', ' ', '.', '..', '../x', 'a/b', 'a\\b', 'a\x00', 'a\nb', 'x' * 121, '\udcff', None]
)
def test_names_that_others_rely_on_are_refused_not_changed(name):
    with pytest.raises(InputError, match='splits.json: split .* cannot name a file'):
        require_name(name, 'splits.json: split')


def test_names_that_others_rely_on_may_be_odd():
    assert [require_name(name, '') for name in ('day 1', 'v1.0', '.x', 'ü+-')] == ['day 1', 'v1.0', '.x', 'ü+-']


def test_outputs_are_checked_before_the_work_and_nothing_is_left(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('kept')
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    os.mkfifo(tmp_path / 'pipe')
    before = sorted(tmp_path.iterdir())
    check_outputs([tmp_path / 'new/er/metrics.json', tmp_path / 'file', None], [tmp_path, tmp_path / 'new', None])
    for words, arguments in {
        'is a folder, not a file': {'files': [tmp_path]},
        'is a device or a pipe': {'files': [tmp_path / 'pipe']},
        'file is a file, but a folder is needed': {'folders': [tmp_path / 'file' / 'x']},
        'file is a file, but a folder': {'files': [tmp_path / 'file' / 'x']},
        'link is a link to nothing': {'folders': [tmp_path / 'link' / 'x']},
        'the name is too long': {'files': [tmp_path / ('x' * 256)]},
        'is an input and would be overwritten': {'files': ['file'], 'inputs': [None, tmp_path / 'file']},
    }.items():
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=words):
            check_outputs(**arguments)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ('number', 'words'),
    [
        (errno.EROFS, 'the disk is read-only: choose another folder'),
        (errno.EACCES, 'permission denied: change its permissions'),
        (errno.ENOSPC, 'the disk is full: free space there'),
    ],
)
def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch, number, words):
    def refuse(path, *_):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr('perception3d.outputs.os.open', refuse)
    with pytest.raises(InputError, match=f'cannot write {tmp_path}/a/b: {tmp_path}: {words}'):
        check_outputs(folders=[tmp_path / 'a' / 'b'])


def tool_that_raises(error):
    def main(_):
        raise error

    return main


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (PermissionError(13, 'Permission denied', 'a/b'), 'a/b: permission denied: change its permissions'),
        (OSError(28, 'No space left on device'), 'the disk is full: free space'),
        (PermissionError("class `X` in x.py: [Errno 13] Permission denied: '/work'"), '/work: permission denied'),
        (
            OSError(
                'Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
                "  File x\nOSError: [Errno 24] Too many open files: 'a.jpg'\n"
            ),
            'a.jpg: too many open files: raise the limit with ulimit -n',
        ),
        (ConnectionRefusedError(111, 'Connection refused'), '[Errno 111] Connection refused'),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys, error, line):
    with pytest.raises(SystemExit) as ended:
        run_tool(tool_that_raises(error))
    written = capsys.readouterr().err
    assert ended.value.code == 2 and written.startswith(f'error: {line}') and written.count('\n') == 1


@pytest.mark.parametrize('error', [FileNotFoundError(2, 'No such file', 'a.json'), InputError('a.json is damaged')])
def test_a_variable_of_the_environment_asks_for_the_traceback(monkeypatch, capsys, error):
    written = []
    for wanted in ('0', '1'):
        monkeypatch.setenv('PERCEPTION3D_TRACEBACK', wanted)
        with pytest.raises(SystemExit) as ended:
            run_tool(tool_that_raises(error))
        assert ended.value.code == 2
        written.append(capsys.readouterr().err)
    assert written[0].startswith('error: a.json') and written[0].count('\n') == 1
    assert 'in main\n    raise error' in written[1] and written[1].endswith(written[0])


def test_nobody_reads_the_output_any_more():
    code = 'from perception3d.apis.cli import run_tool\nrun_tool(lambda _: print("x" * 100_000 + "\\n", "y"))'
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, '-c', code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, '')


@contextmanager
def little_space():
    """No file may become larger than 8 KB, as on a disk that is nearly full.

    Not a fixture: the limit would also hold for the file that pytest prints its results to.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def noise(number=12):
    return [np.random.default_rng(k).integers(0, 255, (120, 160, 3), np.uint8) for k in range(number)]


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.webp'])
def test_a_picture_that_finds_no_space_is_reported_and_leaves_no_file(tmp_path, suffix):
    with pytest.raises(OSError, match=f"File too large: '{tmp_path}/a{suffix}'"), little_space():
        files.write_image(tmp_path / f'a{suffix}', noise(1)[0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('suffix', ['.mp4', '.gif'])
def test_a_video_that_finds_no_space_is_reported_and_leaves_no_file(tmp_path, suffix):
    with (
        pytest.raises((OSError, InputError), match=r'a\.gif|a\.mp4: only 0 of 12 frames could be written'),
        little_space(),
    ):
        write_video(tmp_path / f'a{suffix}', noise())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('error', [RuntimeError('unexpected pos 64 vs 0'), OSError('9 requested and 0 written')])
def test_a_full_disk_is_reported_whatever_a_library_reports(tmp_path, monkeypatch, error):
    (tmp_path / 'a.pth').write_text('earlier')
    for full in (False, True):
        if full:
            monkeypatch.setattr(files, 'try_writing', lambda folder: tool_that_raises(OSError(28, 'full', folder))(0))
        with pytest.raises(OSError if full else type(error)) as caught, files.write_whole(tmp_path / 'a.pth') as path:
            path.write_text('half')
            raise error
        assert not full or system_error(caught.value).startswith(f'{tmp_path}/a.pth: the disk is full')
    assert (tmp_path / 'a.pth').read_text() == 'earlier' and len(list(tmp_path.iterdir())) == 1


def test_errors_about_other_files_keep_their_names(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing.png'), files.write_whole(tmp_path / 'a.mp4'):
        (tmp_path / 'missing.png').read_bytes()
    with pytest.raises(InputError, match='is a folder, not a file'):
        files.write_json(tmp_path, {})
    with pytest.raises(OSError, match=str(tmp_path / 'file')):
        (tmp_path / 'file').touch()
        files.write_json(tmp_path / 'file' / 'a.json', {})


def test_pictures_have_the_bytes_of_opencv(tmp_path):
    image = cv2.GaussianBlur(noise(1)[0], (5, 5), 0)
    for suffix, quality in (('.png', None), ('.jpg', None), ('.jpg', 77)):
        options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
        cv2.imwrite(str(tmp_path / f'a{suffix}'), image, options)
        files.write_image(tmp_path / f'b{suffix}', image, quality)
        assert (tmp_path / f'a{suffix}').read_bytes() == (tmp_path / f'b{suffix}').read_bytes()
    for array in (np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2], np.zeros((0, 5), np.float32)):
        files.write_bytes(tmp_path / 'points.bin', array)
        assert (tmp_path / 'points.bin').read_bytes() == array.tobytes()


def _hold(folder, sender):
    with folder_lock(folder, 'being written'):
        sender.send('held')
        time.sleep(600)


def test_the_second_run_in_a_folder_learns_who_holds_it_and_a_kill_frees_it(tmp_path):
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe()
    holder = context.Process(target=_hold, args=(tmp_path, sender))
    holder.start()
    assert receiver.recv() == 'held'
    with pytest.raises(InputError, match=f'{tmp_path} is being written by process {holder.pid} on .* since 20'):
        with folder_lock(tmp_path, 'being written'):
            raise AssertionError('both hold it')
    holder.kill()
    holder.join()
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / '.lock.json').read_text())['pid'] == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch):
    error = NotImplementedError('FileSystem does not appear to support flock')
    monkeypatch.setattr('filelock.FileLock.acquire', lambda *args, **settings: tool_that_raises(error)(0))
    with (
        pytest.raises(InputError, match=f'{tmp_path} cannot be locked .*flock.*: choose a folder'),
        folder_lock(tmp_path),
    ):
        raise AssertionError('it is not held')


@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_synchronised_keeps_its_files(tmp_path, monkeypatch, number):
    fsync = os.fsync

    def refuse(handle):
        if os.path.isdir(f'/proc/self/fd/{handle}'):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr('perception3d.files.os.fsync', refuse)
    with pytest.raises(OSError) if number == errno.EIO else nullcontext():
        write_pointer(tmp_path, tmp_path / 'epoch_1.pth')
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_1.pth'


def _work(sender):
    with process_pool(2) as pool:
        sender.send([pool.submit(os.getpid).result(), *pool._processes])
        pool.submit(time.sleep, 600).result()


def _fork_worker(sender):
    worker = multiprocessing.get_context('fork').Process(target=_wait)
    worker.start()
    sender.send([worker.pid])
    time.sleep(600)


def _wait():
    end_with_parent()
    time.sleep(600)


def _forkserver_worker(sender):
    with ProcessPoolExecutor(1, multiprocessing.get_context('forkserver'), end_with_parent) as pool:
        pid = pool.submit(os.getpid).result()
        # Its first look at its parent has passed.
        pool.submit(time.sleep, 0.3).result()
        sender.send([pid])
        pool.submit(time.sleep, 600).result()


@pytest.mark.parametrize('work', [_work, _fork_worker, _forkserver_worker])
def test_workers_end_with_their_killed_parent(work):
    receiver, sender = multiprocessing.Pipe()
    parent = multiprocessing.get_context('fork').Process(target=work, args=(sender,))
    parent.start()
    sender.close()
    workers = [psutil.Process(pid) for pid in set(receiver.recv())]
    assert all(worker.is_running() for worker in workers)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_that_dies_is_reported_in_one_line():
    with pytest.raises(InputError, match='a worker process died.*--jobs'), process_pool(1) as pool:
        pool.submit(os._exit, 1).result()


def test_a_full_standard_output_is_reported(monkeypatch, capsys):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(sys, 'stdout', Full())
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda _: 0)
    assert ended.value.code == 2 and 'error: the disk is full' in capsys.readouterr().err


def test_paths_are_not_cut_at_their_last_dot(tmp_path):
    assert [path.name for path in OutputNames(Path(tmp_path)).paths('a.b', ['.png', '.lines.txt'])] == [
        'a.b.png',
        'a.b.lines.txt',
    ]
