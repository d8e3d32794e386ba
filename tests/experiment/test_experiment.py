"""Experiments resume where they were stopped, skip what is done, and compare arms by the paired t test."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import multiprocessing
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import psutil
import pytest
from scipy import stats

from perception3d.checks import InputError
from perception3d.experiment import cells
from perception3d.experiment.commands import Launch, option_words
from perception3d.experiment.plan import read_experiment
from perception3d.experiment.records import fingerprints
from perception3d.experiment.run import Request, run_experiment
from perception3d.experiment.table import markdown, paired_difference, spread, summarise, wall_times

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / 'tests' / 'plugin' / 'tiny_experiment.py'
ARMS = ('plain', 'tuned')

# Tools that take no time: the training fails or waits while a file says so, the test gives score[seed].
FAKE_TRAIN = """
import ast, os, pathlib, sys, time
options = dict(word.split('=', 1) for word in sys.argv if '=' in word)
work = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
work.mkdir(parents=True, exist_ok=True)
with (work / 'runs').open('a') as file:
    file.write(f'{options.get("teacher")} {os.environ.get("OMP_NUM_THREADS")}\\n')
print('step 1', flush=True)
switch = pathlib.Path(options.get('+switch', 'none'))
if switch.is_file():
    (work / 'pid').write_text(str(os.getpid()))
    time.sleep(float(switch.read_text()))
    print('out of memory')
    sys.exit(3)
(work / 'iter_7.pth').touch()
(work / 'last_checkpoint').write_text('iter_7.pth')
"""
FAKE_TEST = """
import ast, json, pathlib, sys
options = dict(word.split('=', 1) for word in sys.argv if '=' in word)
assert pathlib.Path(sys.argv[2]).name == 'iter_7.pth' and pathlib.Path(sys.argv[2]).is_file()
scores = ast.literal_eval(options['+score'])
metrics = {'score': scores[int(options['+randomness.seed'])], 'other': 1.0}
pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).write_text(json.dumps(metrics))
"""
# As srun: the command once for each task, with the variables that slurm sets. Its own words go to a file.
FAKE_SRUN = """#!{python}
import os, subprocess, sys
place = sys.argv.index(sys.executable)
with open({log!r}, 'a') as file:
    file.write(' '.join(sys.argv[1:place]) + os.linesep)
tasks = int(sys.argv[place - 1].removeprefix('--ntasks='))
job = {{'SLURM_NTASKS': str(tasks), 'SLURM_JOB_ID': '7', 'SLURM_NODELIST': 'here'}}
ranks = [{{**os.environ, **job, 'SLURM_PROCID': str(rank), 'SLURM_LOCALID': str(rank)}} for rank in range(tasks)]
running = [subprocess.Popen(sys.argv[place:], env=environment) for environment in ranks]
sys.exit(max(process.wait() for process in running))
"""
FAKE_PREPARE = "import pathlib, sys\nwith open(sys.argv[1], 'a') as file: file.write(sys.argv[2])\n"


class Lab:
    """A folder with fast tools, a config and an experiment file."""

    def __init__(self, folder):
        self.folder, self.out, self.tools = folder, folder / 'out', folder / 'tools'
        self.tools.mkdir()
        for name, text in {'train': FAKE_TRAIN, 'test': FAKE_TEST, 'prepare': FAKE_PREPARE}.items():
            (self.tools / f'{name}.py').write_text(text)
        (folder / 'config.py').write_text("teacher = None\nmodel = dict(type='A', width=3, teacher=teacher)\n")
        self.write('arms = {"a": dict(config="config.py", options={"+score": [1.0, 2.0, 4.0]})}')

    def write(self, text, head='seeds = (0, 1, 2)\nmetrics = ("score",)\n'):
        (self.folder / 'exam.py').write_text(head + text)

    def run(self, **settings):
        words = ('jobs', 'launcher', 'nproc', 'slurm_args')
        launch = Launch(self.tools, **{key: settings.pop(key) for key in words if key in settings})
        return run_experiment(Request(self.folder / 'exam.py', launch, self.out, **settings))

    def cell(self, name):
        return json.loads((self.out / 'cells' / name / 'cell.json').read_text())

    def runs(self, name):
        return (self.out / 'cells' / name / 'work' / 'runs').read_text().splitlines()

    def switch(self, seconds):
        (self.folder / 'switch').write_text(str(seconds))
        return f'{{"+switch": {str(self.folder / "switch")!r}, "+score": [5.0, 5.0, 5.0]}}'

    def in_child(self):
        """Runs the experiment in another process, as a user would in another terminal."""

        def run():
            try:
                code = self.run()
            except KeyboardInterrupt:
                code = 130
            os._exit(code)

        child = multiprocessing.get_context('fork').Process(target=run)
        child.start()
        return child

    def wait_for(self, path):
        deadline = time.monotonic() + 30
        while not (path.is_file() and path.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return path.read_text()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, 'POLL_S', 0.01)
    return Lab(tmp_path)


class ForkedTool:
    """Stands in for Popen: runs a tool in a fork of this process, which has done the slow imports already."""

    kill = ''  # the cell whose training is killed at its 61st sample

    def __init__(self, command, *, stdin, stdout, stderr, env, start_new_session, preexec_fn):
        self.returncode = None
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.setsid()
            preexec_fn()
            os.dup2(stdout.fileno(), 1)
            os.dup2(stdout.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, 'w', 1), os.fdopen(2, 'w', 1)
            os.environ.update(env)
            sys.argv = command[1:]
            if 'train.py' in command[1] and self.kill and self.kill in ' '.join(command):
                importlib.import_module('plugin_parts').NoisyBlobs.__init__.__defaults__ = (24, 61)
            runpy.run_path(command[1], run_name='__main__')
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout=None):
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode


@pytest.fixture
def tool(monkeypatch):
    """tools/experiment.py, whose cells are forked."""
    for module in ('perception3d.apis.training', 'perception3d.apis.testing', 'mmdet3d.models'):
        importlib.import_module(module)
    monkeypatch.setattr(cells, 'Popen', ForkedTool)
    monkeypatch.setattr(cells, 'POLL_S', 0.02)
    return runpy.run_path(str(ROOT / 'tools' / 'experiment.py'))['main']


def _cell(out, name):
    return json.loads((out / 'cells' / name / 'cell.json').read_text())


def test_killed_cells_resume_and_the_tool_does_nothing_twice(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ForkedTool, 'kill', 'plain/seed0')
    out, whole = tmp_path / 'out', tmp_path / 'whole'
    words = [str(TINY), '--out', str(out), '--jobs', '2']
    assert tool(words) == 1
    printed = capsys.readouterr().out
    assert 'plain/seed0 FAILED: its train ended with code -9' in printed and 'Epoch(train)' in printed
    assert 'tuned/seed0 FAILED: blocked: it needs plain/seed0, which failed' in printed
    assert '2 of 4 cells are done' in printed and '- not done: plain, seeds 0' in (out / 'tiny.md').read_text()

    monkeypatch.setattr(ForkedTool, 'kill', '')
    assert tool(words) == 0
    printed = capsys.readouterr().out
    assert 'plain/seed0 is resumed from its last checkpoint' in printed and 'plain/seed1' not in printed
    assert 'iter_14.pth' in (out / 'cells/plain/seed0/train.log').read_text()

    # A run without interruption has the same result.
    assert tool([str(TINY), '--out', str(whole), '--only', 'plain', '--seeds', '0']) == 0
    cell, other = _cell(out, 'plain/seed0'), _cell(whole, 'plain/seed0')
    assert 0 < cell['metrics']['centre_error'] < 1.5  # an untrained net is off by 2.4 on average
    assert cell['metrics'] == other['metrics'] != _cell(out, 'plain/seed1')['metrics']
    assert cell['digest'] == other['digest'] and not (whole / 'cells/tuned').exists()
    parts = cell['train']['parts']
    assert [part['code'] for part in parts] == [-9, 0] and cell['versions']['torch']
    assert cell['train_seconds'] == sum(part['seconds'] for part in parts) > parts[1]['seconds'] > 0

    # The second arm began from the weights of the first, seed by seed.
    for seed in (0, 1):
        log = (out / 'cells' / 'tuned' / f'seed{seed}' / 'train.log').read_text()
        assert f'Load checkpoint from {out}/cells/plain/seed{seed}/work/iter_24.pth' in log

    # Once more, as a user calls it: another process knows that all is done.
    before = {path: path.stat().st_mtime_ns for path in (out / 'cells').rglob('*')}
    command = [sys.executable, str(ROOT / 'tools' / 'experiment.py'), *words]
    again = subprocess.run(command, capture_output=True, text=True, cwd='/', timeout=300)
    assert again.returncode == 0 and '4 of 4 cells are done' in again.stdout, again.stderr[-2000:]
    assert {path: path.stat().st_mtime_ns for path in (out / 'cells').rglob('*')} == before

    page = (out / 'tiny.md').read_text()
    errors = {name: [_cell(out, f'{name}/seed{seed}')['metrics']['centre_error'] for seed in (0, 1)] for name in ARMS}
    row = next(line for line in page.splitlines() if line.startswith('| plain |'))
    assert row.startswith(f'| plain | 2 | - | {sum(errors["plain"]) / 2:.4f} ± ')
    row = next(line for line in page.splitlines() if line.startswith('| tuned |'))
    gain = (sum(errors['tuned']) - sum(errors['plain'])) / 2
    assert row.startswith(f'| tuned | 2 | plain | {sum(errors["tuned"]) / 2:.4f} ± ') and f'| {gain:+.4f} [' in row
    assert f'python tools/experiment.py tests/plugin/tiny_experiment.py --out {out}' in page
    assert 'in 2 parts' in page and '--cfg-options +randomness.seed=1 +load_from=' in page


def test_torchrun_trains_and_tests_a_cell_with_two_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    main = runpy.run_path(str(ROOT / 'tools' / 'experiment.py'))['main']
    words = [str(TINY), '--out', str(tmp_path / 'out'), '--only', 'plain', '--seeds', '0']
    assert main([*words, '--launcher', 'pytorch', '--nproc', '2']) == 0, capsys.readouterr().out
    cell = _cell(tmp_path / 'out', 'plain/seed0')
    # 24 samples, two processes with a batch of 4 each: 3 iterations an epoch, 4 epochs.
    assert Path(cell['checkpoint']).name == 'iter_12.pth' and cell['machine']['processes of a cell'] == 2
    assert 0 < cell['metrics']['centre_error'] < 2.4
    assert '--launcher pytorch --nproc 2' in (tmp_path / 'out' / 'tiny.md').read_text()


def test_a_failed_cell_stops_those_alone_that_need_it(lab, capsys):
    lab.write(f"""
arms = {{
    'good': dict(config='config.py', options={{'+score': [1.0, 2.0, 4.0]}}),
    'bad': dict(config='config.py', options={lab.switch(0)}),
    'after': dict(config='config.py', options={{'teacher': '{{bad}}', '+score': [0.0]}}, seeds=(0,)),
    'behind': dict(config='config.py', options={{'+score': [0.0]}}, needs=['after'], seeds=[0]),
}}""")
    assert lab.run(jobs=2) == 1
    printed = capsys.readouterr().out
    assert '3 of 8 cells are done' in printed and '5 of 8 cells are not done' in printed
    assert 'bad/seed2: its train ended with code 3' in printed and 'step 1\nout of memory' in printed
    assert 'behind/seed0: blocked: it needs after/seed0' in printed
    (lab.folder / 'switch').unlink()
    assert lab.run() == 0
    assert lab.runs('after/seed0')[0].startswith(str(lab.out / 'cells/bad/seed0/work/iter_7.pth'))
    assert len(lab.runs('good/seed0')) == 1 and len(lab.runs('bad/seed0')) == 2
    assert [len(lab.cell('bad/seed0')[stage]['parts']) for stage in ('train', 'test')] == [2, 1]


def test_a_failed_test_does_not_train_again(lab):
    test = lab.tools / 'test.py'
    test.write_text('import sys; sys.exit(1)')
    assert lab.run(seeds=[0]) == 1
    test.write_text(FAKE_TEST)
    assert lab.run(seeds=[0]) == 0
    assert len(lab.runs('a/seed0')) == 1 and [part['code'] for part in lab.cell('a/seed0')['test']['parts']] == [1, 0]


def test_a_fixed_seed_serves_all_and_no_thread_is_shared(lab, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr('perception3d.experiment.commands._cores', lambda: 8)
    lab.write("""
options = {'+score': [1.0, 2.0, 4.0]}
arms = {
    'student': dict(config='config.py', options={'teacher': '{teacher}'}, test_config='config.py'),
    'teacher': dict(config='config.py', seeds=(1,), options={'model.width': 5}),
}""")
    assert lab.run(jobs=3, only=['student'], seeds=[0, 2]) == 0
    for seed in (0, 2):
        assert lab.runs(f'student/seed{seed}') == [f'{lab.out}/cells/teacher/seed1/work/iter_7.pth 2']
    assert not (lab.out / 'cells/student/seed1').exists()
    # The test has a config of its own: the options of the training are not for it.
    test = lab.cell('student/seed0')['test']['parts'][0]['command']
    assert any(word.startswith('+score=') for word in test) and not any('teacher=' in word for word in test)


def test_sigterm_ends_the_cells_and_the_next_call_resumes_them(lab):
    lab.write(f'arms = {{"a": dict(config="config.py", seeds=(0,), options={lab.switch(60)})}}')
    child = lab.in_child()
    pid = int(lab.wait_for(lab.out / 'cells/a/seed0/work/pid'))
    with pytest.raises(InputError, match='is in use by process'):
        lab.run()
    time.sleep(0.1)
    os.kill(child.pid, signal.SIGTERM)
    child.join(30)
    assert child.exitcode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    (lab.folder / 'switch').unlink()
    assert lab.run() == 0
    parts = lab.cell('a/seed0')['train']['parts']
    assert [part['code'] for part in parts] == [None, 0] and parts[0]['seconds'] >= 0.1


def test_the_cells_of_a_killed_run_end_with_it_and_their_time_counts(lab):
    lab.write(f'arms = {{"a": dict(config="config.py", seeds=(0,), options={lab.switch(600)})}}')
    child = lab.in_child()
    cell = psutil.Process(int(lab.wait_for(lab.out / 'cells/a/seed0/work/pid')))
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    psutil.wait_procs([cell], timeout=30)
    assert not cell.is_running() or cell.status() == psutil.STATUS_ZOMBIE
    (lab.folder / 'switch').unlink()
    log = lab.out / 'cells/a/seed0/train.log'
    began = json.loads((log.parent / 'progress.json').read_text())['train']['parts'][0]['began']
    os.utime(log, (began + 7, began + 7))
    assert lab.run() == 0
    assert lab.cell('a/seed0')['train']['parts'][0]['seconds'] == pytest.approx(7)
    assert lab.cell('a/seed0')['train_seconds'] > 7


def test_a_cell_of_another_config_is_refused_until_it_is_redone(lab, capsys):
    arms = """
arms = {{
    'a': dict(config='config.py', options={{'+score': {score}, '+loader.num_workers': {workers}}}),
    'b': dict(config='config.py', options={{'teacher': '{{a}}', '+score': [0.0, 0.0, 0.0]}}),
}}"""
    lab.write(arms.format(score=[1.0, 2.0, 4.0], workers=2))
    assert lab.run(seeds=[0, 1]) == 0
    # What does not change a number may change.
    lab.write(arms.format(score=[1.0, 2.0, 4.0], workers=4))
    assert lab.run(seeds=[0]) == 0 and len(lab.runs('a/seed0')) == 1
    lab.write(arms.format(score=[3.0, 2.0, 4.0], workers=2))
    for mode in ({}, {'table_only': True}):
        with pytest.raises(InputError, match='a/seed0 was run with another config .* --redo a .or remove'):
            lab.run(**mode)
    capsys.readouterr()
    assert lab.run(redo=['a']) == 0
    # What was made from it runs again as well.
    assert capsys.readouterr().out.count('runs again') == 4
    assert lab.cell('a/seed0')['metrics']['score'] == 3.0 and lab.cell('b/seed1')['needs'].keys() == {'a/seed1'}


PAIR = """
options = {'+score': [1.0, 2.0, 4.0]}
arms = {
    'teacher': dict(config='config.py', seeds=(0,)),
    'student': dict(config='config.py', options={'teacher': '{teacher}'}),
}"""


def test_redoing_an_arm_loses_nothing_that_does_not_run_again(lab, capsys):
    def finished():
        return {path.parent: json.loads(path.read_text())['finished'] for path in lab.out.glob('cells/*/*/cell.json')}

    lab.write(PAIR)
    assert lab.run() == 0
    before = finished()
    for mode, lost in (
        ({'only': ['teacher']}, 'student/seed0, student/seed1, student/seed2'),
        (
            {'seeds': [0]},
            'student/seed1, student/seed2',
        ),
    ):
        for dry_run in (True, False):
            with pytest.raises(InputError, match=f'--redo teacher: {lost} were made from cells that run again'):
                lab.run(redo=['teacher'], dry_run=dry_run, **mode)
    # Whatever may fail comes before anything is removed.
    lab.write('prepare = [["sh", "-c", "exit 1"]]' + PAIR)
    with pytest.raises(InputError, match='ended with code 1'):
        lab.run(redo=['teacher'])
    lab.write(PAIR.replace('2.0', '3.0'))
    with pytest.raises(InputError, match='teacher/seed0 was run with another config'):
        lab.run(redo=['student'], seeds=[1])
    assert finished() == before

    lab.write(PAIR)
    capsys.readouterr()
    assert lab.run(redo=['student'], only=['student'], seeds=[1]) == 0
    assert capsys.readouterr().out.count('runs again') == 1
    after = finished()
    assert {path.name for path in before if before[path] != after[path]} == {'seed1'} and len(after) == 4

    # What has not begun blocks nothing, and does not begin.
    for seed in (1, 2):
        shutil.rmtree(lab.out / f'cells/student/seed{seed}')
    assert lab.run(redo=['teacher'], seeds=[0]) == 0
    assert len(finished()) == 2 and all(before[path] != stamp for path, stamp in finished().items())
    capsys.readouterr()
    assert lab.run(redo=['teacher'], dry_run=True) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('#')]
    assert lines[:2] == ['# teacher/seed0, runs again', '# student/seed0, runs again, needs teacher/seed0']


def test_a_cell_whose_source_has_run_again_is_refused(lab):
    lab.write("""
options = {'+score': [1.0]}
seeds = [0]
arms = {'a': dict(config='config.py'), 'b': dict(config='config.py', options={'teacher': '{a}'})}""")
    assert lab.run() == 0
    record = lab.out / 'cells/a/seed0/cell.json'
    record.write_text(json.dumps({**lab.cell('a/seed0'), 'finished': 'later'}))
    with pytest.raises(
        InputError, match='b/seed0 was made from an earlier a/seed0, which has been run again since.*--redo b'
    ):
        lab.run()


def test_prepare_runs_once_and_may_not_change_under_cells(lab):
    text = (
        'prepare = [["tools/prepare.py", "{{out}}/made", "{}"]]\noptions = {{"+score": [1.0, 2.0, 4.0]}}\n'
        'arms = {{"a": dict(config="config.py")}}'
    )
    (lab.tools / 'train.py').write_text('import sys; sys.exit(1)')
    lab.write(text.format('x'))
    assert lab.run(seeds=[0]) == 1 and lab.run(seeds=[0]) == 1
    assert (lab.out / 'made').read_text() == 'x'
    lab.write(text.format('y'))
    with pytest.raises(InputError, match='prepare has changed .*choose another --out'):
        lab.run()
    assert (lab.out / 'made').read_text() == 'x'
    assert json.loads((lab.out / 'prepare.json').read_text())[0]['words'][-1] == 'x'


def test_what_prepare_made_is_made_again_when_it_is_missing(lab, capsys):
    first, second = (
        '"tools/prepare.py", "{out}/first", "x"',
        '"sh", "-c", "cat {out}/first > {out}/second; rm -f {out}/no"',
    )
    lab.write(
        f'prepare = [[{first}], [{second}]]\n'
        'arms = {"a": dict(config="config.py", options={"+score": [1.0, 2.0, 4.0]})}'
    )
    assert lab.run(seeds=[0]) == 0
    entries = json.loads((lab.out / 'prepare.json').read_text())
    assert [entry['left'] for entry in entries] == [['first'], ['first', 'second']]
    (lab.out / 'second').unlink()
    assert lab.run(seeds=[1]) == 0
    assert (lab.out / 'first').read_text() == (lab.out / 'second').read_text() == 'x'
    assert 'prepare: second does not exist in' in capsys.readouterr().out

    # The first is missing, and the run ends before the second is made again: the next one makes it.
    (lab.out / 'first').unlink()
    path = lab.tools / 'prepare.py'
    path.write_text('import sys; sys.exit(1)')
    with pytest.raises(InputError, match='ended with code 1'):
        lab.run(seeds=[2])
    assert [entry['seconds'] for entry in json.loads((lab.out / 'prepare.json').read_text())] == [None, None]
    path.write_text(FAKE_PREPARE.replace("'a'", "'w'"))
    (lab.out / 'first').write_text('half')
    assert lab.run(seeds=[2]) == 0 and (lab.out / 'second').read_text() == 'x'

    # A record of an earlier version does not have what was made.
    entries = json.loads((lab.out / 'prepare.json').read_text())
    (lab.out / 'prepare.json').write_text(
        json.dumps([{k: v for k, v in e.items() if k != 'left'} for e in entries[:1]])
    )
    lab.write(f'prepare = [[{first}]]\narms = {{"a": dict(config="config.py", options={{"+score": [1.0, 2.0, 4.0]}})}}')
    capsys.readouterr()
    assert lab.run() == 0 and 'prepare:' not in capsys.readouterr().out
    (lab.out / 'first').unlink()
    assert lab.run() == 0 and (lab.out / 'first').read_text() == 'x'


def test_a_prepare_that_fails_trains_nothing_and_is_tried_again(lab):
    lab.write('prepare = [["sh", "-c", "echo no space; test -e {out}/space"]]\narms = {"a": dict(config="config.py")}')
    with pytest.raises(InputError, match='ended with code 1: .*prepare.log ends with no space'):
        lab.run()
    assert not (lab.out / 'cells').exists()
    lab.write(
        'prepare = [["sh", "-c", "echo changed"]]\narms = {"a": dict(config="config.py", options={"+score": [1.0]})}'
    )
    assert lab.run(seeds=[0]) == 0
    page = (lab.out / 'exam.md').read_text()
    assert "- before the cells, 0.0 min, no commit known: `sh -c 'echo changed'`" in page


def test_a_metric_that_no_test_gives_ends_the_run_and_keeps_the_cells(lab):
    arms = 'arms = {"a": dict(config="config.py", options={"+score": [1, 2, 3]})}'
    lab.write(arms, 'seeds = (0, 1)\nmetrics = ["scor"]\n')
    with pytest.raises(InputError, match="gave other metrics: unknown metric 'scor': did you mean 'score'"):
        lab.run()
    assert lab.cell('a/seed0') and not (lab.out / 'cells/a/seed1/cell.json').exists()
    with pytest.raises(InputError, match='did you mean'):
        lab.run()
    assert not (lab.out / 'cells/a/seed1').exists()
    lab.write(arms, 'seeds = (0, 1)\nmetrics = ["score"]\n')
    assert lab.run() == 0 and len(lab.runs('a/seed0')) == 1


def test_the_table_has_the_numbers_of_a_textbook(lab):
    lab.write("""
baseline = 'base'
scale = 100.0
def arm(score, **more):
    return dict(config='config.py', options={'+score': score}, **more)
arms = {
    'base': arm([0.01, 0.02, 0.04], extra={'parameters, M': 0.25}),
    'better': arm([0.02, 0.04, 0.05]),
    'short': arm([0.03], seeds=(0,), extra={'note': 'a|b'}),
    'blank': arm([0.07, None, 0.09]),
    'alone': arm([0.09, 0.09, 0.09], baseline=None),
    'other': arm([0.05, 0.05, 0.05], baseline='alone'),
}""")
    assert lab.run(jobs=2) == 0
    lines = (lab.out / 'exam.md').read_text().splitlines()
    cells = [[text.strip() for text in line.replace(r'\|', '/').split('|')[1:-1]] for line in lines if line[:2] == '| ']
    columns = ['arm', 'n', 'compared with', 'score', 'score: difference [95 %]', 'train, min', 'test, min']
    assert cells[0] == [*columns, 'parameters, M', 'note']
    rows = {row[0]: row[1:5] for row in cells[1:]}
    # (1, 2, 4): mean 7/3, s = sqrt(7/3). Differences 1, 2, 1: mean 4/3, s = sqrt(1/3), t(0.975, 2) = 4.3027,
    # half width 4.3027 * sqrt(1/3) / sqrt(3) = 1.4342.
    assert rows['base'] == ['3', '-', '2.333 ± 1.528', '-']
    assert rows['better'] == ['3', 'base', '3.667 ± 1.528', '+1.333 [-0.101, +2.768]']
    assert rows['short'] == ['1', 'base', '3.000', '+2.000 [-]']
    # A null counts for nothing: 7 and 9 against 1 and 4, differences 6 and 5, t(0.975, 1) = 12.706.
    assert rows['blank'] == ['3', 'base', '8.000 ± 1.414 (n=2)', '+5.500 [-0.853, +11.853] (n=2)']
    assert rows['alone'] == ['3', '-', '9.000 ± 0.000', '-']
    assert rows['other'] == ['3', 'alone', '5.000 ± 0.000', '-4.000 [-4.000, -4.000]']
    assert [row[-2:] for row in cells[1:4]] == [['0.25', '-'], ['-', '-'], ['-', 'a/b']]
    content = json.loads((lab.out / 'exam.json').read_text())
    assert content['arms'][1]['metrics']['score']['difference']['mean'] == pytest.approx(0.04 / 3)
    seconds = [cell['train_seconds'] + cell['test_seconds'] for cell in content['cells']]
    assert content['seconds'] == {
        'cells': pytest.approx(sum(seconds)), 'cells_side_by_side': pytest.approx(sum(seconds) / 2), 'prepare': 0.0
    }  # fmt: skip
    assert len(content['cells']) == 16 and content['cells'][0]['train']['parts'][0]['command']


def test_the_page_says_how_long_all_cells_take():
    def record(train, test, jobs):
        return {'train_seconds': train, 'test_seconds': test, 'machine': {'cells side by side': jobs}}

    records = [record(3600.0, 60.0, 2), record(1800.0, 30.0, 1)]
    assert wall_times(records, [{'seconds': 5.0}, {'seconds': None}]) == {
        'cells': 5490.0, 'cells_side_by_side': 3660.0, 'prepare': 5.0
    }  # fmt: skip


def test_the_table_alone_shows_what_is_there(lab, capsys):
    with pytest.raises(InputError, match='no cell of exam in .* is done: run the experiment first'):
        lab.run(table_only=True)
    assert lab.run(seeds=[0, 1]) == 0
    (lab.out / 'exam.md').unlink()
    assert lab.run(table_only=True) == 0
    assert '- not done: a, seeds 2' in (lab.out / 'exam.md').read_text()
    assert not (lab.out / 'cells/a/seed2').exists()


def test_differences_are_those_of_the_paired_t_test():
    assert spread([1.0, 2.0, 4.0]) == (3, pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)))
    assert spread([1.0]) == (1, 1.0, None) and spread([]) == (0, None, None)
    values, baseline = {0: 3.1, 1: 2.9, 2: 4.0, 3: 3.3, 7: 100.0}, {3: 3.0, 2: 3.2, 1: 2.5, 0: 3.2, 5: 0.0}
    common = [0, 1, 2, 3]
    test = stats.ttest_rel([values[key] for key in common], [baseline[key] for key in common])
    for confidence in (0.95, 0.8):
        found = paired_difference(values, baseline, confidence)
        assert found.n == 4 and found.mean == pytest.approx(0.35)
        assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(confidence)))
    assert paired_difference({0: 3.0}, {0: 1.0}) == (1, 2.0, None, None)
    assert paired_difference({0: 3.0}, {1: 1.0}) == (0, None, None, None)


def test_a_dry_run_prints_commands_that_a_shell_can_run(lab, capsys):
    lab.write("""
prepare = [['tools/prepare.py', '{out}/data', 'some text']]
arms = {
    'teacher': dict(config='config.py', seeds=(0,)),
    'student': dict(
        config='config.py', seeds=(4,), options={'teacher': '{teacher}'}, test_options={'+data': '{out}/d'}
    ),
}""")
    assert lab.run(dry_run=True) == 0
    assert not lab.out.exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{sys.executable} {lab.tools}/prepare.py {lab.out}/data 'some text'"
    assert lines[-3] == '# student/seed4, needs teacher/seed0'
    pointer = lab.out / 'cells/teacher/seed0/work/last_checkpoint'
    pointer.parent.mkdir(parents=True)
    pointer.write_text('iter_7.pth')
    words = subprocess.run(['sh', '-c', f'printf "%s\\n" {lines[-2]}'], capture_output=True, text=True).stdout.split()
    cell = lab.out / 'cells/student/seed4/work'
    options = ['--cfg-options', '+randomness.seed=4', f'teacher={pointer.parent}/iter_7.pth']
    expected = [sys.executable, f'{lab.tools}/train.py', f'{lab.folder}/config.py', '--work-dir', str(cell)]
    assert words == [*expected, *options]
    assert lines[-1].endswith(f'+data={lab.out}/d')


def test_cells_are_handed_to_torchrun_and_slurm(lab, capsys):
    tool = runpy.run_path(str(ROOT / 'tools' / 'experiment.py'))['main']
    words = [str(lab.folder / 'exam.py'), '--out', str(lab.out), '--seeds', '0', '--dry-run']
    assert tool([*words, '--launcher', 'pytorch', '--nproc', '3']) == 0
    for line, name in zip(capsys.readouterr().out.splitlines()[1:], ('train', 'test')):
        head, port, *rest = shlex.split(line.replace('--master_port=', '--master_port '))[3:6]
        assert (head, port) == ('--nproc_per_node=3', '--master_port') and int(rest[0]) > 1023
        assert f'-m torch.distributed.run --nproc_per_node=3 --master_port={rest[0]} {ROOT}/tools/{name}.py' in line
        assert line.endswith('--launcher pytorch')
    assert tool([*words, '--launcher', 'slurm', '--slurm-args=-p gpu -n 2']) == 0
    for line, name in zip(capsys.readouterr().out.splitlines()[1:], ('train', 'test')):
        assert line.startswith(f'srun -p gpu -n 2 {sys.executable} {ROOT}/tools/{name}.py')
        assert line.endswith('--launcher slurm')
    assert tool([*words, '--launcher', 'slurm', '--slurm-args=-p gpu', '--nproc', '4']) == 0
    assert f'srun -p gpu --ntasks=4 {sys.executable}' in capsys.readouterr().out
    assert tool([*words, '--launcher', 'slurm']) == 0
    assert f'srun --ntasks=1 {sys.executable}' in capsys.readouterr().out
    with pytest.raises(InputError, match='--nproc is for torchrun'):
        tool([*words, '--nproc', '2'])
    with pytest.raises(InputError, match="--nproc 2, but --slurm-args '-n 3' asks for 3 tasks"):
        tool([*words, '--launcher', 'slurm', '--nproc', '2', '--slurm-args=-n 3'])
    with pytest.raises(InputError, match='does not give the number of tasks of a cell: add -n'):
        tool([*words, '--launcher', 'slurm', '--slurm-args=-N 2 --ntasks-per-node=4'])
    with pytest.raises(InputError, match='--slurm-args is for srun'):
        tool([*words, '--slurm-args=-n 1'])
    with pytest.raises(InputError, match='--jobs 0 is too few'):
        tool([*words, '--jobs', '0'])


@pytest.mark.parametrize(
    'text, tasks', [('-n 2', 2), ('-n3', 3), ('--ntasks=4 -N 2', 4), ('-p x --ntasks 5', 5), ('', 1)]
)
def test_the_number_of_tasks_is_read_as_srun_reads_it(text, tasks):
    assert Launch(Path(), launcher='slurm', slurm_args=tuple(text.split())).processes == tasks


def test_cells_of_another_number_of_processes_do_not_mix(lab, monkeypatch):
    programs, log = lab.folder / 'bin', lab.folder / 'srun.log'
    programs.mkdir()
    (programs / 'srun').write_text(FAKE_SRUN.format(python=sys.executable, log=str(log)))
    (programs / 'srun').chmod(0o755)
    monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')
    monkeypatch.delenv('MASTER_PORT', raising=False)
    train = "import os\nassert 'MASTER_PORT' not in os.environ and int(os.environ['SLURM_PROCID']) < 2\n" + FAKE_TRAIN
    (lab.tools / 'train.py').write_text(train)
    assert lab.run(seeds=[0], launcher='slurm', nproc=2, slurm_args=('--mem', '1G')) == 0
    # Training and test, each with two tasks.
    assert log.read_text().splitlines() == ['--mem 1G --ntasks=2'] * 2 and len(lab.runs('a/seed0')) == 2
    assert lab.cell('a/seed0')['machine']['processes of a cell'] == 2
    assert "--launcher slurm --nproc 2 '--slurm-args=--mem 1G'" in (lab.out / 'exam.md').read_text()
    for launch in ({}, {'launcher': 'slurm'}, {'launcher': 'pytorch', 'nproc': 3}):
        with pytest.raises(InputError, match='a/seed0 was run with another .*number of processes'):
            lab.run(**launch)
    # It does not matter which launcher starts the processes.
    assert lab.run(launcher='pytorch', nproc=2, table_only=True) == 0


def test_one_process_has_the_digest_that_it_always_had(lab):
    experiment = read_experiment(lab.folder / 'exam.py')
    assert fingerprints(experiment) == fingerprints(experiment, 1) != fingerprints(experiment, 2)
    model = {'type': 'A', 'width': 3, 'teacher': None}
    config = {'model': model, 'teacher': None, 'default_scope': 'mmdet3d', 'score': [1.0, 2.0, 4.0]}
    text = json.dumps({'train': config, 'test': config, 'needs': []}, sort_keys=True)
    assert fingerprints(experiment) == {'a': hashlib.sha256(text.encode()).hexdigest()[:16]}


def test_processes_of_a_cell_share_its_cores(monkeypatch):
    monkeypatch.setattr('perception3d.experiment.commands._cores', lambda: 8)
    assert [Launch(Path(), jobs=3).threads, Launch(Path(), 2, 'pytorch', 4).threads, Launch(Path(), 9).threads] == [
        2, 1, 1,
    ]  # fmt: skip
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    monkeypatch.delenv('MKL_NUM_THREADS', raising=False)
    monkeypatch.setenv('NUMBA_NUM_THREADS', '5')
    environment = Launch(Path()).environment(8)
    assert [environment[f'{name}_NUM_THREADS'] for name in ('OMP', 'MKL', 'NUMBA')] == ['3', '3', '5']
    assert Launch(Path(), launcher='slurm').threads is None


def test_a_program_that_is_not_there_fails_its_cells(lab, monkeypatch, capsys):
    monkeypatch.setenv('PATH', str(lab.folder))
    assert lab.run(launcher='slurm', seeds=[0]) == 1
    assert 'a/seed0: srun cannot be started' in capsys.readouterr().out


def test_option_values_come_out_of_the_command_line_as_they_went_in():
    options = {'a': 1e-3, 'b': 'text', 'c': '7', '+d': [1, (2, None)], 'e': True, 'f': {'x': 'y'}, 'g': 'none', 'h': ''}
    words = option_words(options, 5)
    from perception3d.apis.config import parse_options

    assert words[:2] == ['--cfg-options', '+randomness.seed=5'] and 'b=text' in words
    assert parse_options(words[2:]) == options
    for value in (Path, float('inf')):
        with pytest.raises(InputError, match='option a = .* cannot be given on a command line'):
            option_words({'a': value}, 0)


HEAD = 'seeds = (0,)\nmetrics = ("score",)\n'
ARM = 'arms = {"a": dict(config="config.py"), "b": dict(config="config.py", options={"model.width": 4})}\n'


@pytest.mark.parametrize(
    'text, message',
    [
        (HEAD, 'arms is missing'),
        (HEAD + 'arms = {}', 'arms is empty'),
        (HEAD + 'arms = [', 'does not run as an experiment: SyntaxError'),
        (HEAD + 'arms = lost', "does not run as an experiment: NameError: name 'lost'"),
        (HEAD + ARM + 'metric = 1', "unknown key 'metric': did you mean 'metrics'"),
        (HEAD + ARM + 'scale = 0', 'scale = 0: expected a number above 0'),
        (HEAD + ARM + 'name = "a/b"', "name = 'a/b': expected a file name"),
        (HEAD + ARM + 'metrics = "score"', "metrics is 'score': expected a tuple of names"),
        (HEAD + ARM + 'seeds = 3', 'seeds is 3: expected a tuple of integers'),
        (HEAD + ARM + 'seeds = (1, 2, 1)', 'a seed appears twice'),
        (HEAD + ARM + 'baseline = "aa"', "baseline: unknown arm 'aa': did you mean 'a'"),
        (HEAD + ARM + 'options = {"randomness.seed": 3}', 'name the seeds in `seeds`'),
        (HEAD + ARM + 'prepare = ["echo"]', 'prepare is .* expected a list of commands'),
        (HEAD + ARM + 'prepare = [["echo", "{a}"]]', 'only {out} is known before the cells run'),
        (HEAD + ARM + 'prepare = [["tools/none.py"]]', 'neither .*tools/none.py nor .* exists'),
        (
            HEAD + 'arms = {"a": dict(config="config.py"), "a": dict(config="b.py")}',
            "line 3: the key 'a' appears twice",
        ),
        (HEAD + 'arms = {"out": dict(config="config.py")}', "arm 'out': expected a name"),
        (HEAD + 'arms = {"a": dict()}', "arm 'a': config is missing"),
        (HEAD + 'arms = {"a": dict(config="confg.py")}', "arm 'a': .*confg.py does not exist"),
        (HEAD + 'arms = {"a": dict(config="config.py", test_config="none.py")}', 'none.py does not exist'),
        (HEAD + 'arms = {"a": dict(config="config.py", option={})}', "unknown key 'option': did you mean 'options'"),
        (HEAD + 'arms = {"a": dict(config="config.py", options={"model.widht": 3})}', "arm 'a': .* did you mean model"),
        (
            HEAD + 'arms = {"a": dict(config="config.py", options={"teacher": set})}',
            'cannot be given on a command line',
        ),
        (HEAD + 'arms = {"a": dict(config="config.py", extra={"x": []})}', 'expected a number or a text'),
        (HEAD + 'arms = {"ab": dict(config="config.py", needs=["abc"])}', "unknown arm 'abc': did you mean 'ab'"),
        (
            HEAD + 'arms = {"ab": dict(config="config.py", options={"teacher": "{abc}"})}',
            'in braces: unknown',
        ),
        (HEAD + 'arms = {"a": dict(config="config.py"), "b": dict(config="config.py")}', "'a' and 'b' are the same"),
        (
            HEAD + 'arms = {"a": dict(config="config.py", needs=["b"]), "b": dict(config="config.py", needs=["a"])}',
            'arms need each other: a -> b -> a',
        ),
        (
            HEAD + 'arms = {"a": dict(config="config.py", seeds=(1, 2)), "b": dict(config="config.py", needs=["a"])}',
            "arm 'b' with seed 0 needs 'a', which has seeds .1, 2.",
        ),
    ],
)
def test_mistakes_in_the_file_are_found_before_anything_runs(lab, text, message):
    lab.write(text, head='')
    with pytest.raises(InputError, match=message) as caught:
        lab.run()
    assert str(lab.folder / 'exam.py') in str(caught.value) or 'option' in str(caught.value)
    assert not lab.out.exists()


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'only': ['aa']}, "unknown arm 'aa': did you mean 'a'"),
        ({'redo': ['c']}, "unknown arm 'c'"),
        ({'seeds': [3]}, "unknown seed '3'"),
        ({'seeds': [2], 'only': ['b']}, 'no cell has both'),
        ({'seeds': [2], 'redo': ['b']}, '--redo b: these arms have no seed of --seeds'),
    ],
)
def test_unknown_arms_and_seeds_are_named(lab, settings, message):
    lab.write('arms = {"a": dict(config="config.py"), "b": dict(config="config.py", seeds=[0], needs=["a"])}')
    with pytest.raises(InputError, match=message):
        lab.run(**settings)


def test_the_digest_knows_the_test_and_what_an_arm_is_made_from(lab):
    text = """
arms = {{
    'a': dict(config='config.py', options={{'model.width': {}}}),
    'b': dict(
        config='config.py',
        options={{'teacher': '{{a}}'}},
        test_config='config.py',
        test_options={{'model.width': {}}},
    ),
}}"""
    found = []
    for numbers in ((4, 4), (5, 4), (4, 5), (4, 4)):
        lab.write(text.format(*numbers))
        found.append(fingerprints(read_experiment(lab.folder / 'exam.py')))
    first, other_teacher, other_test, again = found
    assert first == again
    assert other_teacher['a'] != first['a'] and other_teacher['b'] != first['b']
    assert other_test['a'] == first['a'] and other_test['b'] != first['b']


def test_a_table_without_a_finished_cell_says_so():
    experiment = read_experiment(TINY)
    rows = summarise(experiment, [])
    assert [(row['arm'], row['n'], row['missing_seeds']) for row in rows] == [(arm, 0, [0, 1]) for arm in ARMS]
    page = markdown(experiment, rows, [], [], ['python', 'tools/experiment.py'], ROOT)
    assert '- wall time: no cell is done\n' in page and '- not done: tuned, seeds 0, 1\n' in page
    assert '- code:' not in page and 'nan' not in page
