"""Kills commands at random moments, runs them again, and compares with undisturbed runs.

    python tests/robustness/kills.py --out docs/results          # 40 kills; continues kills.json, writes kills.md
    python tests/robustness/kills.py --suite --out FOLDER        # the five fast ones of the test suite

Each command runs in a process of its own, forked from this one after the slow imports; so do the cells of an
experiment. It is the leader of its session, and only it gets SIGKILL. Moments are drawn with a seed, as shares of the
time of the undisturbed run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / 'tests' / 'plugin' / 'plugin_config.py'
PILLARS = ROOT / 'configs' / 'point_pillars' / 'point_pillars_tiny_10e_kitti_sim.py'
MARK = 'PERCEPTION3D_KILLS'
COMMAND = 'python tests/robustness/kills.py --out docs/results'
# Workers look for their parent every second, those of torch every five.
LEFT_S = 20.0
DRAWS = 8


@dataclass(frozen=True)
class Task:
    """A command that is killed.

    Attributes:
        kills: how often.
        words: of the command line, from the folder that the command may write to.
        prepare: fills that folder before the first run.
        result: what must be equal in the end, by name.
        resumes: whether the second run gets --resume where there is something to resume.
    """

    name: str
    tool: str
    kills: int
    words: Callable[[Path], list[str]]
    result: Callable[[Path], dict[str, str]]
    prepare: Callable[[Path], object] = lambda folder: folder.mkdir()
    resumes: bool = False


def digest(content: bytes) -> str:
    """Returns a short hash."""
    return hashlib.sha256(content).hexdigest()[:16]


def files(folder: Path) -> dict[str, str]:
    """Hashes of all files below a folder; those whose name begins with a dot are notes and locks of the commands."""
    paths = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    kept = [path for path in paths if not any(part.startswith('.') for part in path.relative_to(folder).parts)]
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in kept}


def metrics(folder: Path) -> dict[str, str]:
    """The hash of the metrics of a test; logs hold times."""
    return {name: value for name, value in files(folder).items() if name == 'metrics.json'}


def weights(folder: Path) -> dict[str, str]:
    """Hashes of every tensor of the newest checkpoint; names of the checkpoints that are left."""
    import torch

    hashes: dict[str, str] = {}
    pointer = folder / 'last_checkpoint'
    content = torch.load(folder / pointer.read_text(), weights_only=False)
    for part in ('state_dict', 'ema_state_dict'):
        for name, value in content.get(part, {}).items():
            hashes[f'{part}.{name}'] = digest(value.contiguous().numpy().tobytes())
    for index, state in content['optimizer']['state'].items():
        hashes |= {f'{index}.{key}': digest(value.numpy().tobytes()) for key, value in state.items()}
    names = sorted(path.name for path in folder.iterdir() if path.suffix == '.pth' or path == pointer)
    return {**hashes, 'files': ' '.join(names), 'pointer': pointer.read_text()}


def cells(folder: Path) -> dict[str, str]:
    """Metrics and weights of every cell of an experiment."""
    hashes = {
        str(path.relative_to(folder)): digest(path.read_bytes()) for path in folder.glob('cells/*/*/metrics.json')
    }
    for work in folder.glob('cells/*/*/work'):
        hashes |= {f'{work.relative_to(folder)}.{name}': value for name, value in weights(work).items()}
    return hashes


def kitti_tree(folder: Path) -> None:
    """Writes 30 frames in the layout of KITTI."""
    from kitti_tree import KittiTree

    frames = [f'{number:06d}' for number in range(30)]
    KittiTree(folder).write({'train': frames[:20], 'val': frames[20:], 'trainval': frames})


def data_of_the_tests(root: Path) -> None:
    """Writes what several tasks read: a KITTI tree with info files, results, and an untrained checkpoint."""
    import torch
    from mmengine.registry import init_default_scope

    from perception3d.apis.config import load_config
    from perception3d.formats.kitti.info import create_infos
    from perception3d.registry import MODELS

    kitti_tree(root / 'kitti')
    create_infos(root / 'kitti', progress=False)
    (root / 'results').mkdir()
    for path in (root / 'kitti' / 'training' / 'label_2').glob('*.txt'):
        lines = [line for line in path.read_text().splitlines() if not line.startswith('DontCare')]
        scored = [f'{line} {0.9 - 0.1 * number:.2f}\n' for number, line in enumerate(lines)]
        (root / 'results' / path.name).write_text(''.join(scored))
    init_default_scope('mmdet3d')
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(load_config(PLUGIN).model).state_dict()}, root / 'plugin.pth')


def train_words(config: Path, keep: int, options: list[str]) -> Callable[[Path], list[str]]:
    """The command line of a training that keeps `keep` checkpoints."""
    options = [f'default_hooks.checkpoint.max_keep_ckpts={keep}', *options]
    return lambda out: [str(config), '--work-dir', str(out), '--cfg-options', *options]


def tasks(root: Path, suite: bool) -> list[Task]:
    """The commands and how often each is killed; `root` holds their data."""
    kitti = root / 'kitti'
    plugin = ['train_cfg.max_epochs=8', 'train_dataloader.num_workers=1']
    alone = plugin[:1]
    pillars = [
        f'data_root={kitti}', 'train_cfg.max_epochs=3', 'train_cfg.val_interval=9', 'train_dataloader.num_workers=1'
    ]  # fmt: skip

    def training(name: str, config: Path, keep: int, kills: int, options: list[str]) -> Task:
        words = train_words(config, keep, options)
        return Task(name, 'train', kills, words, weights, resumes=True)

    create = Task(
        'create_data', 'create_data', 1 if suite else 6,
        lambda out: ['kitti', '--root', str(out), '--jobs', '2'], files, kitti_tree,
    )  # fmt: skip
    scores = Task(
        'evaluate', 'evaluate', 1 if suite else 7,
        lambda out: ['kitti', '--gt', str(kitti / 'training' / 'label_2'), '--pred', str(root / 'results'),
                     '--out', str(out / 'metrics.json')],
        files,
    )  # fmt: skip
    if suite:
        return [
            training('train, keeps 1', PLUGIN, 1, 2, alone), training('train, keeps 3', PLUGIN, 3, 1, plugin), create,
            scores,
        ]  # fmt: skip
    render = ['kitti', '--profile', 'tiny', '--scenes', '4', '--val-scenes', '2', '--jobs', '2']
    tested = [str(PLUGIN), str(root / 'plugin.pth')]
    experiment = [str(ROOT / 'tests' / 'plugin' / 'tiny_experiment.py'), '--only', 'plain', '--seeds', '0']
    return [
        create,
        Task('simulate', 'simulate', 6, lambda out: [*render, '--out', str(out)], files),
        training('train, keeps 1', PLUGIN, 1, 8, plugin),
        training('train, keeps 1, detector', PILLARS, 1, 1, pillars),
        training('train, keeps 3', PLUGIN, 3, 3, plugin),
        scores,
        Task('test', 'test', 6, lambda out: [
            *tested, '--work-dir', str(out), '--out', str(out / 'metrics.json'),
            '--cfg-options', '+test_dataloader.dataset.length=400', 'test_dataloader.num_workers=1',
        ], metrics),
        Task('experiment', 'experiment', 3, lambda out: [*experiment, '--out', str(out)], cells),
    ]  # fmt: skip


class ForkedCommand:
    """Stands in for Popen in an experiment, so that its cells need no imports either."""

    def __init__(self, command: list[str], *, stdout: Any, env: Mapping[str, str], **settings: Any) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(env)
            # A new program would not have the handlers of the experiment.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            Run.become(Path(command[1]).stem, command[2:], Path(stdout.name), settings.get('preexec_fn'))

    def poll(self) -> int | None:
        """Returns the exit code once the command has ended."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end."""
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode


class Run:
    """A command in a process of its own, the leader of a session."""

    number = 0

    def __init__(self, tool: str, words: list[str], log: Path) -> None:
        Run.number += 1
        self.mark = f'{os.getpid()} {Run.number}'
        self.start = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.environ[MARK] = self.mark
            self.become(tool, words, log)

    @staticmethod
    def become(tool: str, words: list[str], log: Path, before: Callable[[], None] | None = None) -> None:
        """Runs a command in this process and ends it; `before` is called first, as Popen's `preexec_fn`."""
        code = 1
        try:
            from perception3d.apis.cli import run_tool

            os.setsid()
            if before is not None:
                before()
            if tool == 'experiment':
                importlib.import_module('perception3d.experiment.cells').Popen = ForkedCommand
            with log.open('ab') as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, 'w', 1), os.fdopen(2, 'w', 1)
            sys.argv = [str(ROOT / 'tools' / f'{tool}.py'), *words]
            main = importlib.import_module(f'tools.{tool}').main
            run_tool(lambda _: main(words))
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, until_s: float = float('inf')) -> int | None:
        """Returns the exit code, or None if the command still runs `until_s` after its start."""
        while time.monotonic() - self.start < until_s:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        return None

    def kill(self) -> tuple[int, float | None]:
        """Kills the leader alone; returns how many processes it had, and the seconds until all were gone (or None)."""
        import psutil

        others = psutil.Process(self.pid).children(recursive=True)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        others = {process.pid: process for process in [*others, *_marked(self.mark)]}
        start = time.monotonic()
        while any(_lives(process) for process in others.values()):
            if time.monotonic() - start > LEFT_S:
                for process in filter(_lives, others.values()):
                    process.kill()
                return len(others), None
            time.sleep(0.05)
        return len(others), round(time.monotonic() - start, 2)


def _lives(process: Any) -> bool:
    import psutil

    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _marked(mark: str) -> list[Any]:
    """Processes that a command has started as programs of their own."""
    import psutil

    marked = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                marked.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return marked


def kill_once(task: Task, seconds: float, expected: Mapping[str, str], seed: int, base: Path) -> dict[str, Any]:
    """Kills a task once, runs it again, and returns the outcome."""
    draw = random.Random(f'{task.name} {seed}')
    for attempt in range(DRAWS):
        out, log = base / f'{seed}_{attempt}', base / f'{seed}_{attempt}.log'
        task.prepare(out)
        # The first third of such a short training is its start.
        share = draw.uniform(0.3 if task.resumes else 0.02, 0.98)
        run = Run(task.tool, task.words(out), log)
        # A machine that is less busy than before may have finished: another moment is drawn.
        if run.wait(share * seconds) is None:
            break
        seconds = min(seconds, time.monotonic() - run.start)
        shutil.rmtree(out)
    else:
        raise SystemExit(f'{task.name}: ended {DRAWS} times before it was killed')
    after_s = time.monotonic() - run.start
    processes, gone_s = run.kill()
    held = sorted(path.name for path in out.rglob('*.pth'))
    words = task.words(out)
    resumed = task.resumes and (out / 'last_checkpoint').is_file()
    code = Run(task.tool, [words[0], '--resume', *words[1:]] if resumed else words, log).wait()
    equal = code == 0 and task.result(out) == expected
    record = {
        'task': task.name, 'seed': seed, 'share': round(share, 3), 'after_s': round(after_s, 2), 'held': held,
        'resumed': resumed, 'code': code, 'equal': equal, 'processes': processes, 'gone_s': gone_s,
    }  # fmt: skip
    if equal:
        shutil.rmtree(out)
    return record


def run_tasks(
    base: Path,
    suite: bool,
    records: list[dict[str, Any]],
    times: dict[str, float],
    report: Callable[[list[dict[str, Any]], dict[str, float]], None],
) -> bool:
    """Kills every task `task.kills` times, reports after each kill; returns whether all results were right.

    Args:
        records, times: of an earlier call; the kills in them are not repeated.
    """
    data = base / 'data'
    data.mkdir(parents=True)
    data_of_the_tests(data)
    for task in tasks(data, suite):
        done = {record['seed'] for record in records if record['task'] == task.name}
        if len(done) >= task.kills:
            continue
        folder = base / task.name.replace(', ', '_').replace(' ', '_')
        folder.mkdir()
        whole = folder / 'whole'
        # The first run compiles kernels, which the others find on the disk; the second one is timed.
        for _ in range(1 if suite or task.tool == 'experiment' else 2):
            shutil.rmtree(whole, ignore_errors=True)
            task.prepare(whole)
            run = Run(task.tool, task.words(whole), folder / 'whole.log')
            if run.wait():
                raise SystemExit(f'{task.name} fails without a kill: {folder / "whole.log"}')
            times[task.name] = round(time.monotonic() - run.start, 2)
        expected = task.result(whole)
        for seed in sorted(set(range(task.kills)) - done):
            records.append(kill_once(task, times[task.name], expected, seed, folder))
            print(records[-1], flush=True)
            report(records, times)
    return all(record['equal'] and record['gone_s'] is not None for record in records)


def write_report(out: Path, records: list[dict[str, Any]], times: dict[str, float]) -> None:
    """Writes kills.json, with every kill, and kills.md, a row for each command."""
    import torch

    from perception3d.benchmark.report import machine

    log = out / 'kills.json'
    notes = json.loads(log.read_text()).get('notes', '') if log.is_file() else ''
    facts = {**machine(torch.device('cpu')), 'cores': os.cpu_count()}
    content = {'command': COMMAND, 'machine': facts, 'notes': notes, 'seconds': times, 'kills': records}
    log.write_text(json.dumps(content, indent=1) + '\n')
    (out / 'kills.md').write_text(page(facts, records, times))


def page(facts: Mapping[str, Any], records: list[dict[str, Any]], times: dict[str, float]) -> str:
    """Returns the page with the results of all kills."""
    from perception3d.benchmark.report import markdown_table

    rows = []
    for task, seconds in times.items():
        kills = [record for record in records if record['task'] == task]
        gone = [record['gone_s'] for record in kills]
        rows.append({
            'command': task,
            'undisturbed, s': seconds,
            'kills': len(kills),
            'same result': sum(record['equal'] for record in kills),
            'kills that left a process': gone.count(None),
            'last process ended after, s': f'{max((value for value in gone if value is not None), default=0):.1f}',
        })  # fmt: skip
    same = sum(record['equal'] for record in records)
    return f"""# Killed commands

Does a command that is killed and run again give the result of an undisturbed run, and do its processes end?

{markdown_table(rows)}

**{same} of {len(records)} killed commands gave the same result.** Each was killed once with SIGKILL, at a random
moment, and run again; a training with `--resume` if it had saved a checkpoint. The same result means: all files are
equal, or all tensors of weights and optimizer and the names of the checkpoints. Workers of torch's data loaders look
for their parent every 5 s, the others every second.

The trainings have 24 to 48 iterations and save a checkpoint every second one; the data sets are tiny. Other work ran
on the machine ({facts['processor']}, {facts['cores']} cores, torch {facts['torch']}, Python {facts['python']}).
Every kill, and the commits: `kills.json`.

    {COMMAND}
"""


def main() -> int:
    """Parses the command line; 0 when all results were equal and no process was left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='folder for kills.json and kills.md')
    parser.add_argument('--suite', action='store_true', help='the five fast kills of the test suite')
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS='1', NUMBA_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1')
    sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(PLUGIN.parent)]
    # What a command imports, so that its time is that of its work.
    for name in ('perception3d', 'torch', 'mmdet3d.models', 'perception3d.apis.testing', 'perception3d.apis.training'):
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / 'kills.json'
    earlier = json.loads(log.read_text()) if log.is_file() else {'kills': [], 'seconds': {}}
    with tempfile.TemporaryDirectory(prefix='kills_') as base:
        report = partial(write_report, args.out)
        good = run_tasks(Path(base), args.suite, earlier['kills'], earlier['seconds'], report)
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
