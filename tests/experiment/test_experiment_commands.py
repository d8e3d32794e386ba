"""The commands of cells: for a shell, torchrun and srun, with their threads and options."""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from experiment_lab import FAKE_TRAIN, ROOT

from perception3d.checks import InputError
from perception3d.experiment.commands import Launch, option_words


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
    from perception3d.apis.option_texts import parse_options

    assert words[:2] == ['--cfg-options', '+randomness.seed=5'] and 'b=text' in words
    assert parse_options(words[2:]) == options
    for value in (Path, float('inf')):
        with pytest.raises(InputError, match='option a = .* cannot be given on a command line'):
            option_words({'a': value}, 0)
