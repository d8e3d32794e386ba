"""Run the main job on the built-in world: render it, train the tiny Fast-BEV, test it on unseen scenes, draw."""

from __future__ import annotations

import importlib
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from perception3d.apis.cli import as_typed, command_parser
from perception3d.apis.config_names import find_config
from perception3d.checks import InputError
from perception3d.outputs import check_outputs

CONFIG = 'fast_bev_tiny_96x352_6e_sim'


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the steps one by one; see --help."""
    parser = command_parser(__doc__, 'python tools/demo.py --out work_dirs/demo --seed 0')
    parser.add_argument('--out', default='work_dirs/demo', help='folder for data, logs, checkpoints and pictures')
    parser.add_argument('--seed', type=int, default=0, help='seed of the training; the world is always of seed 0')
    parser.add_argument('--train-scenes', type=int, default=300)
    parser.add_argument('--val-scenes', type=int, default=60)
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V', help='passed on to train and test')
    parser.add_argument('--weights', metavar='FILE', help='also write the trained weights alone to this file')
    args = parser.parse_args(argv)

    check_outputs([args.weights], [args.out])
    out = Path(args.out).resolve()
    run_dir = out / f'seed{args.seed}'
    data = out / 'data'
    options = ['--cfg-options', f'data_root={data}', f'randomness.seed={args.seed}', *args.cfg_options]
    scenes = ['--scenes', args.train_scenes, '--val-scenes', args.val_scenes]
    start = time.monotonic()
    _run('simulate', 'nuscenes', '--out', data, '--profile', 'tiny', '--seed', 0, *scenes)
    _run('create_data', 'nuscenes', '--root', data)
    # The test comes right after, so none at the end of the training. A second demo with other options is trained again.
    train = ['--work-dir', run_dir, '--overwrite', *_mixed_precision()]
    _run('train', find_config(CONFIG), *train, *options, '+train_cfg.val_begin=1000')
    pictures = run_dir / 'pictures'
    checkpoint = _last_checkpoint(run_dir)
    test = ['--out', run_dir / 'metrics.json', '--show-dir', pictures, '--show-interval', 10, *options]
    _run('test', find_config(CONFIG), checkpoint, '--work-dir', run_dir, *test)
    minutes = (time.monotonic() - start) / 60
    if args.weights:
        from perception3d.apis.weights import write_weights

        write_weights(checkpoint, args.weights)
    names = sorted(pictures.glob('*.png'))
    print(f'\nThe demo took {minutes:.1f} minutes. Metrics: {run_dir / "metrics.json"}. Pictures:')
    print('\n'.join(f'  {name}' for name in names))
    return 0


def _mixed_precision() -> list[str]:
    """Trains in bf16 where the device has instructions for it; elsewhere that is many times slower than fp32."""
    import torch

    from perception3d.apis import has_bfloat16

    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    return ['--amp'] if has_bfloat16(device) else []


def _run(verb: str, *arguments: object) -> None:
    """Runs another command and shows its command line, so that a reader can run it alone.

    In this process: each new one would import torch and the upstream packages again, for 5 s and more.
    """
    words = [*map(str, arguments)]
    print(as_typed(f'\n$ python tools/{verb}.py {shlex.join(words)}'), flush=True)
    code = importlib.import_module(f'perception3d.cli.{verb}').main(words)
    if code:
        raise InputError(f'tools/{verb}.py ended with code {code}: see its message above')


def _last_checkpoint(run_dir: Path) -> Path:
    # Imported late: the processes that render import this file too, and need no torch.
    from perception3d.training_folder import pointed_checkpoint

    checkpoint = pointed_checkpoint(run_dir)
    if checkpoint is None:
        raise InputError(f'{run_dir} holds no checkpoint: did the training end?')
    return checkpoint
