"""Run the main job on the built-in world: render it, train the tiny Fast-BEV, test it on unseen scenes, draw."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from perception3d.apis.cli import command_parser, run_tool
from perception3d.checkpoints import pointed_checkpoint
from perception3d.checks import InputError
from perception3d.outputs import check_outputs
from perception3d.workers import end_child_with_parent

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / 'configs' / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py'


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the steps one by one; see --help."""
    parser = command_parser(__doc__, 'python tools/demo.py --out work_dirs/demo --seed 0')
    parser.add_argument('--out', default='work_dirs/demo', help='folder for data, logs, checkpoints and pictures')
    parser.add_argument('--seed', type=int, default=0, help='seed of the training; the world is always of seed 0')
    parser.add_argument('--train-scenes', type=int, default=300)
    parser.add_argument('--val-scenes', type=int, default=60)
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V', help='passed on to train and test')
    args = parser.parse_args(argv)

    check_outputs(folders=[args.out])
    out = Path(args.out).resolve()
    run_dir = out / f'seed{args.seed}'
    data = out / 'data'
    options = ['--cfg-options', f'data_root={data}', f'randomness.seed={args.seed}', *args.cfg_options]
    scenes = ['--scenes', args.train_scenes, '--val-scenes', args.val_scenes]
    start = time.monotonic()
    _run('simulate.py', 'nuscenes', '--out', data, '--profile', 'tiny', '--seed', 0, *scenes)
    _run('create_data.py', 'nuscenes', '--root', data)
    # The test comes right after, so none at the end of the training. A second demo with other options is trained again.
    _run('train.py', CONFIG, '--work-dir', run_dir, '--overwrite', *options, '+train_cfg.val_begin=1000')
    pictures = run_dir / 'pictures'
    checkpoint = _last_checkpoint(run_dir)
    test = ['--out', run_dir / 'metrics.json', '--show-dir', pictures, '--show-interval', 10, *options]
    _run('test.py', CONFIG, checkpoint, '--work-dir', run_dir, *test)
    minutes = (time.monotonic() - start) / 60
    names = sorted(pictures.glob('*.png'))
    print(f'\nThe demo took {minutes:.1f} minutes. Metrics: {run_dir / "metrics.json"}. Pictures:')
    print('\n'.join(f'  {name}' for name in names))
    return 0


def _run(tool: str, *arguments: object) -> None:
    """Runs a sibling tool and shows its command line, so that a reader can run it alone."""
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    print(f'\n$ python tools/{shlex.join([tool, *command[2:]])}', flush=True)
    code = subprocess.run(command, preexec_fn=end_child_with_parent).returncode
    if code:
        raise InputError(f'tools/{tool} ended with code {code}: see its message above')


def _last_checkpoint(run_dir: Path) -> Path:
    checkpoint = pointed_checkpoint(run_dir)
    if checkpoint is None:
        raise InputError(f'{run_dir} holds no checkpoint: did the training end?')
    return checkpoint


if __name__ == '__main__':
    run_tool(main)
