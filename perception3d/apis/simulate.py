"""Makes a data set: scenes in parallel, finished scenes kept after an interruption, settings checked."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from perception3d.checks import InputError
from perception3d.files import read_json, write_json
from perception3d.locks import LOCK_FILES, folder_lock
from perception3d.outputs import check_outputs
from perception3d.simulation.jobs import SECOND_SPLIT, Job, Request, Writer
from perception3d.simulation.world.scene import WORLD_VERSION
from perception3d.workers import process_pool

SETTINGS, RECORDS = 'simulation.json', '.scenes'


def simulate(writer: Writer, request: Request, jobs: int = 1) -> dict[str, Any]:
    """Writes a data set of the built-in world and returns {'scenes', 'made', 'seconds'}.

    A scene that an earlier run finished is kept. Raises InputError for invalid numbers, and for a folder that holds
    something else or was made with other settings.
    """
    _check(request, jobs)
    if request.out.exists() and not request.out.is_dir():
        raise InputError(f'{request.out} is a file: give --out a folder')
    check_outputs(folders=[request.out])
    # Checked before the lock too, so that a refused folder is not changed.
    _require_own_folder(writer, request)
    with folder_lock(request.out, 'being written'):
        _require_own_folder(writer, request)
        write_json(request.out / SETTINGS, _settings(writer, request), indent=2)
        return _make_missing(writer, request, jobs)


def _make_missing(writer: Writer, request: Request, jobs: int) -> dict[str, Any]:
    work = list_jobs(request)
    records: dict[str, Any] = {}
    for job in work:
        path = _record_path(job)
        if path.is_file():
            records[job.name] = read_json(path)
    missing = [job for job in work if job.name not in records]
    if missing:
        _remove_unfinished(request.out)
    start = time.perf_counter()
    with tqdm(desc='scenes', total=len(missing), unit='scene', disable=not sys.stderr.isatty()) as bar:
        for done, (job, record) in enumerate(_results(writer, missing, jobs), start=1):
            records[job.name] = record
            bar.update()
            if bar.disable:
                _log_progress(done, len(missing), time.perf_counter() - start)
    writer.finish(request, work, [records[job.name] for job in work])
    return {'scenes': len(work), 'made': len(missing), 'seconds': time.perf_counter() - start}


def list_jobs(request: Request) -> list[Job]:
    """Returns the scenes of a request, the first split before the second."""
    numbers = list(range(request.scenes)) + [SECOND_SPLIT + k for k in range(request.val_scenes)]
    return [Job(request, k, f'scene-{k + 1:04d}') for k in numbers]


def _check(request: Request, jobs: int) -> None:
    if request.scenes < 1 or request.val_scenes < 0 or request.scenes > SECOND_SPLIT:
        raise InputError(
            f'cannot make {request.scenes} scenes to train on and {request.val_scenes} to test on: give --scenes 1 to '
            f'{SECOND_SPLIT} and --val-scenes 0 or more'
        )
    if request.seed < 0:
        raise InputError(f'seed {request.seed} is negative: give 0 or more')
    if jobs < 1:
        raise InputError(f'cannot work with {jobs} jobs: give --jobs 1 or more')


def _settings(writer: Writer, request: Request) -> dict[str, Any]:
    profile = {k: v for k, v in asdict(request.profile).items() if k not in ('scenes', 'val_scenes')}
    settings = {
        'format': writer.name,
        'seed': request.seed,
        'world_version': WORLD_VERSION,
        'profile': profile,
        'scenes': request.scenes,
        'val_scenes': request.val_scenes,
    }
    if writer.version:
        settings['format_version'] = writer.version
    # JSON turns tuples into lists, and the settings to compare with were read from JSON.
    return json.loads(json.dumps(settings))


def _require_own_folder(writer: Writer, request: Request) -> None:
    """Refuses a folder with other files or other settings; more scenes than before are allowed."""
    out, wanted = request.out, _settings(writer, request)
    if out.is_dir() and any(map(_is_data, out.iterdir())):
        if not (out / SETTINGS).is_file():
            raise InputError(f'{out} already holds other files: give --out an empty or new folder')
        have = read_json(out / SETTINGS)
        grown = {k: max(have.get(k, 0), wanted[k]) for k in ('scenes', 'val_scenes')}
        if {**have, **grown} != wanted:
            changed = [k for k in wanted if have.get(k) != wanted[k]]
            raise InputError(
                f'{out} was made with other settings ({", ".join(changed)} differ): give another --out, or remove it'
            )


def _is_data(path: Path) -> bool:
    """Tells whether a file belongs to a data set; lock files and temporary files of killed runs do not."""
    return path.name not in LOCK_FILES and not path.name.startswith(f'.{Path(SETTINGS).stem}-')


def _remove_unfinished(out: Path) -> None:
    """Removes temporary files that a killed run left behind; see `files.write_whole`."""
    for path in out.rglob('.*-*'):
        if path.is_file():
            path.unlink()


def _record_path(job: Job) -> Path:
    return job.request.out / RECORDS / f'{job.name}.json'


def _make(writer: Writer, job: Job) -> Any:
    record = writer.write_scene(job)
    write_json(_record_path(job), record)
    # JSON turns tuples into lists: a record must look the same whether it was just made or read back.
    return read_json(_record_path(job))


def _one_thread() -> None:
    import cv2
    import numba

    numba.set_num_threads(1)
    cv2.setNumThreads(1)


def _results(writer: Writer, work: list[Job], jobs: int) -> Iterator[tuple[Job, Any]]:
    """Yields finished scenes; the first one is made here, so that the kernels are compiled only once."""
    for job in work if jobs == 1 else work[:1]:
        yield job, _make(writer, job)
    if jobs == 1 or len(work) < 2:
        return
    with process_pool(min(jobs, len(work) - 1), _one_thread) as pool:
        running = {pool.submit(_make, writer, job): job for job in work[1:]}
        for future in as_completed(running):
            yield running[future], future.result()


def _log_progress(done: int, total: int, seconds: float) -> None:
    """Writes a line for every twentieth of the scenes: in a log, a bar would be one line per update."""
    if done == total or done % max(1, total // 20) == 0:
        left = seconds / done * (total - done)
        print(f'scene {done}/{total}  {seconds:.0f} s, {left:.0f} s left', file=sys.stderr, flush=True)


def default_jobs() -> int:
    """Returns the default number of processes: one per usable core."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
