"""Experiments resume where they were stopped, skip what is done, and run again what has changed."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from experiment_lab import ARMS, FAKE_PREPARE, FAKE_TEST, ROOT, TINY, ForkedTool, read_cell

from perception3d.checks import InputError


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
    cell, other = read_cell(out, 'plain/seed0'), read_cell(whole, 'plain/seed0')
    assert 0 < cell['metrics']['centre_error'] < 1.5  # an untrained net is off by 2.4 on average
    assert cell['metrics'] == other['metrics'] != read_cell(out, 'plain/seed1')['metrics']
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
    errors = {
        name: [read_cell(out, f'{name}/seed{seed}')['metrics']['centre_error'] for seed in (0, 1)] for name in ARMS
    }
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
    cell = read_cell(tmp_path / 'out', 'plain/seed0')
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
