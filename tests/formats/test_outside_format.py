"""A format of an installed package outside: all three commands find it by its entry point, a broken one is one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perception3d.checks import InputError
from tools import create_data, evaluate, simulate

PACKAGE = """
from dataclasses import dataclass
from pathlib import Path

from perception3d.formats import Command, Format
from perception3d.simulation.jobs import Writer


@dataclass(frozen=True)
class Profile:
    name: str = 'small'
    oversampling: int = 1
    scenes: int = 1
    val_scenes: int = 0
    shadow_m: float = 0.2


def _root(parser):
    parser.add_argument('--root', required=True)


def _create(args):
    Path(args.root, 'infos.txt').write_text('made')


def _evaluate(args):
    return {'same': Path(args.gt).read_text() == Path(args.pred).read_text()}, 'a table'


def _write_scene(job):
    (job.request.out / f'{job.name}.txt').write_text('scene')
    return {'name': job.name}


def _finish(request, jobs, records):
    (request.out / 'all.txt').write_text(str(len(records)))


def _simulate(args):
    return Writer('acme-points', _write_scene, _finish), Profile()


def _nothing(parser):
    pass


FORMAT = Format(
    'acme-points',
    create_data=Command('Points of Acme.', 'python tools/create_data.py acme-points --root DIR', _root, _create),
    evaluate=Command('Points of Acme.', 'python tools/evaluate.py acme-points ..', _nothing, _evaluate),
    simulate=Command('Points of Acme.', 'python tools/simulate.py acme-points ..', _nothing, _simulate),
    aliases=('acme',),
)
NO_FORMAT = 'text'
TAKEN = Format('other', aliases=('kitti',))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Installs the package with an entry point that names an object of it; returns the folder of the package."""
    folder = tmp_path / 'site'
    folder.mkdir()
    (folder / 'acme_points.py').write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, 'acme_points', raising=False)

    def write(target: str) -> Path:
        meta = folder / 'acme-1.0.dist-info'
        meta.mkdir()
        (meta / 'METADATA').write_text('Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n')
        (meta / 'entry_points.txt').write_text(f'[perception3d.formats]\nacme-points = {target}\n')
        return folder

    return write


def test_all_commands_find_it(install: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    install('acme_points:FORMAT')
    assert create_data.main(['acme-points', '--root', str(tmp_path)]) == 0
    assert (tmp_path / 'infos.txt').read_text() == 'made'
    gt, pred, out = (tmp_path / name for name in ('infos.txt', 'copy.txt', 'metrics.json'))
    pred.write_text('made')
    # By its older name too.
    assert evaluate.main(['acme', '--gt', str(gt), '--pred', str(pred), '--out', str(out)]) == 0
    assert json.loads(out.read_text()) == {'same': True}
    assert simulate.main(['acme-points', '--out', str(tmp_path / 'world'), '--scenes', '2', '--jobs', '1']) == 0
    assert (tmp_path / 'world' / 'all.txt').read_text() == '2'
    capsys.readouterr()
    for tool in (create_data, evaluate, simulate):
        with pytest.raises(SystemExit):
            tool.main(['--help'])
        shown = capsys.readouterr().out
        assert 'acme-points' in shown and 'kitti' in shown


@pytest.mark.parametrize(
    ('target', 'words'),
    [
        (
            'acme_lines:FORMAT',
            r'format plugin acme_lines:FORMAT of the package acme does not load \(ModuleNotFoundError: .*\): fix or',
        ),
        ('acme_points:GONE', r'acme_points:GONE of the package acme does not load \(AttributeError'),
        ('acme_points:NO_FORMAT', 'acme_points:NO_FORMAT of the package acme is a str: expected a Format'),
        (
            'acme_points:TAKEN',
            'the format kitti of acme_points:TAKEN of the package acme exists already',
        ),
    ],
)
def test_a_broken_one_is_one_line(
    install: Callable[[str], Path], tmp_path: Path, target: str, words: str, capsys: pytest.CaptureFixture
):
    install(target)
    with pytest.raises(InputError, match=words) as error:
        create_data.main(['acme-points', '--root', str(tmp_path)])
    assert '\n' not in str(error.value)
    # The other formats work.
    with pytest.raises(SystemExit) as end:
        create_data.main(['kitti', '--help'])
    assert end.value.code == 0 and f'warning: {error.value}' in capsys.readouterr().err
