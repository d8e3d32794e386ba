"""A folder with fast tools in which experiments run, and a stand-in for Popen that forks this process."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import runpy
import sys
import time
import traceback
from pathlib import Path

from perception3d.experiment.commands import Launch
from perception3d.experiment.run import Request, run_experiment

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


def read_cell(out, name):
    return json.loads((out / 'cells' / name / 'cell.json').read_text())
