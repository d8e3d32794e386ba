"""Every command of the README runs, in its order, on a world of a few scenes."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perception3d.checks import InputError
from perception3d.files import read_image, read_pickle

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), ROOT / 'data' / 'README.md'])
COMMANDS = [line for line in README.splitlines() if line.startswith('python tools/')]
# What makes each command small; the command itself stays as it is printed.
SMALLER = {
    'simulate.py': ['--scenes', '2', '--val-scenes', '1'],
    # Every eighth scene is validated on.
    'simulate.py culane': ['--profile', 'tiny', '--scenes', '8', '--val-scenes', '1'],
    'simulate.py stcrowd': ['--profile', 'tiny', '--scenes', '2', '--val-scenes', '1'],
    'train.py': ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'train_dataloader.batch_size=2'],
    'test.py': ['test_dataloader.num_workers=0'],
}


# All commands of a chain in one process: most of the time of a small command is that of its imports.
RUN_ALL = """
import json, runpy, sys
for tool, *args in json.loads(sys.argv[1]):
    print('$', tool, *args, file=sys.stderr)
    code = runpy.run_path(tool)['main'](args)
    if code:
        sys.exit(f'it ended with code {code}')
"""


@pytest.fixture(scope='module')
def outputs(tmp_path_factory):
    """Runs the commands, those on different data side by side; returns the folder with their outputs."""
    folder = tmp_path_factory.mktemp('readme')
    chains = {name: [line for line in COMMANDS if _data(line) == name] for name in set(map(_data, COMMANDS))}
    with ThreadPoolExecutor(len(chains)) as pool:
        for _ in pool.map(lambda lines: _run(lines, folder), chains.values()):
            pass
    return folder


def _run(lines, folder):
    # A frame is written from the data that the commands before have made.
    first = next((k for k, line in enumerate(lines) if 'frame.json' in line), len(lines))
    for part in filter(None, (lines[:first], lines[first:])):
        if 'frame.json' in part[0]:
            _write_frame(folder)
        commands = json.dumps([_command(line, folder) for line in part])
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        out = subprocess.run(
            [sys.executable, '-c', RUN_ALL, commands],
            capture_output=True,
            text=True,
            cwd='/',
            timeout=900,
            env=environment,
        )
        assert out.returncode == 0, f'{out.stdout[-1500:]}\n{out.stderr[-3000:]}'


def _command(line, folder):
    """A command of the README as the file of its tool and arguments, made small, with paths in `folder`."""
    tool, *args = shlex.split(line, comments=True)[1:]
    args = [_moved(arg, folder) for arg in args]
    name = Path(tool).name
    smaller = SMALLER.get(f'{name} {args[0]}', SMALLER.get(name, []))
    if '--cfg-options' not in args and any('configs/' in arg for arg in args):
        smaller = ['--cfg-options', f'data_root={folder / "data" / _data(line)}', *smaller]
    elif _data(line) != 'sim_tiny' and '--cfg-options' in args:
        smaller = [f'data_root={folder / "data" / _data(line)}', *smaller]
    return [str(ROOT / tool), *args, *smaller]


def _data(line):
    """The folder of the data that the configs of a command read."""
    names = ('semantickitti_sim', 'kitti_sim', 'culane_sim', 'stcrowd_sim')
    return next((name for name in names if name.removesuffix('_sim') in line), 'sim_tiny')


def _moved(arg, folder):
    """Points a path of the README into the test's folder, or at the repository."""
    if '=' in arg:
        # KEY=PATH or TITLE=CONFIG,CHECKPOINT.
        key, _, value = arg.partition('=')
        return f'{key}={",".join(_moved(part, folder) for part in value.split(","))}'
    if arg.startswith('configs/'):
        return str(ROOT / arg)
    if re.match(r'(data|work_dirs)/|frame\.json', arg):
        return str(folder / re.sub(r'epoch_\d+', 'epoch_1', arg))
    return arg


def _write_frame(folder):
    """Writes a JSON frame, as a user would, from a keyframe of the world."""
    data = folder / 'data' / 'sim_tiny'
    info = read_pickle(data / 'perception3d_infos_sim_val.pkl')['data_list'][0]
    images = {
        name: {
            'img_path': os.path.relpath(data / view['img_path'], folder),
            'cam2img': [list(map(float, row)) for row in view['cam2img']],
            'lidar2cam': [list(map(float, row)) for row in view['lidar2cam']],
        }
        for name, view in info['images'].items()
    }
    points = {
        'lidar_path': os.path.relpath(data / info['lidar_points']['lidar_path'], folder),
        'lidar2ego': info['lidar_points']['lidar2ego'],
    }
    (folder / 'frame.json').write_text(json.dumps({'images': images, 'lidar_points': points}))


def test_the_readme_shows_the_whole_path():
    tools = [Path(shlex.split(line)[1]).name for line in COMMANDS]
    assert tools == [
        'simulate.py',
        'create_data.py',
        'train.py',
        'test.py',
        'infer.py',
        'train.py',
        'compare.py',
        'simulate.py',
        'create_data.py',
        'train.py',
        'test.py',
        'train.py',
        'export.py',
        'simulate.py',
        'create_data.py',
        'train.py',
        'test.py',
        'train.py',
        'simulate.py',
        'create_data.py',
        'train.py',
        'test.py',
        'infer.py',
        'simulate.py',
        'create_data.py',
        'train.py',
        'test.py',
        'infer.py',
    ]


def test_commands_leave_pictures_and_numbers(outputs):
    assert list((outputs / 'work_dirs/shown').glob('*.png'))
    assert list((outputs / 'work_dirs/shown').glob('*.gif'))
    boxes = json.loads((outputs / 'work_dirs/out/frame.json').read_text())['boxes']
    assert all(0 <= box['score'] <= 1 and len(box['center_m']) == 3 for box in boxes)
    assert read_image(outputs / 'work_dirs/out/frame.png').std() > 10
    assert (outputs / 'work_dirs/tiny/epoch_1.pth').is_file()
    compared = read_image(outputs / 'work_dirs/compare/compare_0000.png')
    assert compared.shape == (960, 1140, 3) and compared.std() > 10
    scores = json.loads((outputs / 'work_dirs/pillars/metrics.json').read_text())
    assert 'kitti/3d/mAP/moderate/R40' in scores
    assert list((outputs / 'work_dirs/pillars/shown').glob('*.png'))
    assert (outputs / 'work_dirs/pillars_c4/epoch_1.pth').is_file()
    assert list((outputs / 'work_dirs/cylinder/shown').glob('*.png'))
    assert list((outputs / 'work_dirs/cylinder/results/sequences/08/predictions').glob('*.label'))
    assert (outputs / 'work_dirs/pvd/epoch_1.pth').is_file()
    assert len(list((outputs / 'work_dirs/lane_sad/shown').glob('*.png'))) == 1
    assert {path.suffix for path in (outputs / 'work_dirs/lanes').iterdir()} == {'.png', '.json', '.txt'}
    assert len(list((outputs / 'work_dirs/dha/shown').glob('*.png'))) == 3
    assert (outputs / 'work_dirs/dha/report.html').stat().st_size > 50_000
    assert len(list((outputs / 'work_dirs/people').glob('*.gif'))) == 1
    assert (outputs / 'work_dirs/pillars/dense.onnx').stat().st_size > 100_000


def test_browse_dataset_draws_what_the_network_gets(outputs, tmp_path):
    from perception3d.cli import browse_dataset

    config = str(ROOT / 'configs' / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py')
    options = ['--cfg-options', f'data_root={outputs / "data" / "sim_tiny"}']
    assert browse_dataset.main([config, '--out', str(tmp_path), '--count', '4', *options]) in (0, None)
    pictures = list(tmp_path.glob('*.png'))
    assert len(pictures) == 4 and read_image(pictures[0]).std() > 10


def test_a_frame_without_the_height_of_its_lidar_is_refused(outputs):
    from perception3d.cli import infer

    frame = json.loads((outputs / 'frame.json').read_text())
    del frame['lidar_points']['lidar2ego']
    (outputs / 'blind.json').write_text(json.dumps(frame))
    line = next(line for line in COMMANDS if 'infer.py' in line)
    args = [_moved(arg, outputs) for arg in shlex.split(line)[2:]]
    args = [arg.replace('frame.json', 'blind.json') for arg in args]
    with pytest.raises(InputError, match='lidar2ego'):
        infer.main(args)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_links_and_options_of_a_page_exist(page):
    text = page.read_text()
    assert not _missing_files(text)
    assert not _broken_links(text, page.parent)
    assert not _unknown_options(text)


def test_missing_files_links_and_options_are_found(tmp_path):
    (tmp_path / 'other.md').write_text('# Some words, `and code`\n\n```\n# no heading\n```\n')
    names = '`configs/gone.py` `tools/test.py` `apis/gone.py` `apis/testing.py` `gone_4x.py` configs/FILE.py tools/a.py'
    assert _missing_files(names) == ['configs/gone.py', 'tools/a.py', 'apis/gone.py', 'gone_4x.py']
    links = '[a](other.md) [b](other.md#some-words-and-code) [c](gone.md) [d](other.md#no-heading) [e](https://a.b)'
    assert _broken_links(links + ' `f[0](x)`', tmp_path) == ['gone.md', 'other.md#no-heading']
    assert _unknown_options('`--work-dir DIR` [--video mp4] (--gone) `--tables-only`') == ['--gone', '--tables-only']


@functools.cache
def _repository_files():
    folders = ('configs', 'docs', 'perception3d', 'requirements', 'tests', 'tools', 'data')
    return [f'/{path.relative_to(ROOT)}' for folder in folders for path in (ROOT / folder).rglob('*.py')]


def _missing_files(text):
    """Paths that a text names and that do not exist; a name in capitals, such as FILE.py, is to be filled in."""
    whole = re.findall(r'(?<![\w./])((?:configs|docs|perception3d|tests|tools)/[\w/]+\.(?:py|md|json|jpg))', text)
    missing = [name for name in dict.fromkeys(whole) if not (ROOT / name).exists()]
    ends = [name for name in re.findall(r'`([\w/]+\.py)[`: ]', text) if name not in whole]
    missing += [name for name in dict.fromkeys(ends) if not any(f.endswith(f'/{name}') for f in _repository_files())]
    return [name for name in missing if not Path(name).stem.isupper()]


def _broken_links(text, folder):
    text = re.sub(r'```.*?```|`[^`\n]*`', '', text, flags=re.DOTALL)
    broken = []
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        name, _, heading = link.partition('#')
        target = folder / name
        if '://' not in link and (not target.exists() or heading and heading not in _headings(target.read_text())):
            broken.append(link)
    return broken


@functools.cache
def _options():
    """The options of the tools and of the scripts in tests/, and those of pip and argparse that pages name."""
    sources = [
        path for folder in ('perception3d', 'tools', 'tests/robustness') for path in (ROOT / folder).rglob('*.py')
    ]
    found = {name for path in sources for name in re.findall(r"'(--[a-z][a-z-]+)'", path.read_text())}
    return found | {'--help', '--index-url'}


def _unknown_options(text):
    return [name for name in dict.fromkeys(re.findall(r'(?<![\w-])--[a-z][a-z-]+', text)) if name not in _options()]


def _headings(text):
    """The names under which GitHub links the headings of a page."""
    text = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
    titles = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('tool', sorted(path.name for path in (ROOT / 'tools').glob('*.py')))
def test_every_tool_has_help_with_an_example_and_is_in_the_readme(tool):
    out = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / tool), '--help'], capture_output=True, text=True, cwd='/'
    )
    assert out.returncode == 0 and 'example:\n' in out.stdout
    old_name = 'is the old name of' in out.stderr
    assert tool in README or tool == 'demo.py' or old_name


def test_the_demo_prints_the_table_and_names_its_pictures(monkeypatch, tmp_path, capfd):
    from perception3d.cli import demo

    monkeypatch.setattr('perception3d.cli.simulate.default_jobs', lambda: 1)
    smaller = ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'test_dataloader.num_workers=0']
    scenes = ['--train-scenes', '2', '--val-scenes', '1']
    assert demo.main(['--out', str(tmp_path), '--seed', '3', *scenes, '--cfg-options', *smaller]) == 0
    shown = capfd.readouterr().out
    steps = [line.split()[2] for line in shown.splitlines() if line.startswith('$ ')]
    assert steps == [f'tools/{tool}.py' for tool in ('simulate', 'create_data', 'train', 'test')]
    # The table of the nuScenes devkit.
    assert re.search(r'^mAP: 0\.\d{4}$', shown, re.MULTILINE) and re.search(r'^NDS: 0\.\d{4}$', shown, re.MULTILINE)
    assert re.search(r'^car( +[01]\.\d{3}){10} +\d+$', shown, re.MULTILINE)
    _, _, end = shown.partition('The demo took ')
    metrics, pictures = re.search(r'Metrics: (.*)\. Pictures:\n((?:  .*\n)+)', end).groups()
    assert 'NDS' in Path(metrics).read_text() and Path(metrics).parent == tmp_path / 'seed3'
    pictures = [Path(line.strip()) for line in pictures.splitlines()]
    assert len(pictures) == 1 and read_image(pictures[0]).std() > 10


def test_the_demo_stops_where_a_step_fails(monkeypatch, tmp_path, capsys):
    from perception3d.cli import demo

    monkeypatch.setattr('perception3d.cli.simulate.main', lambda words: 3)
    with pytest.raises(InputError, match='tools/simulate.py ended with code 3'):
        demo.main(['--out', str(tmp_path)])
    assert capsys.readouterr().out.count('$ python tools/') == 1
