"""Measure detectors (size, latency), Fast-BEV, LiDAR detectors and ops next to mmdet3d's, and distillation steps."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perception3d.apis.cli import as_typed, command_parser
from perception3d.apis.first_checks import check_first
from perception3d.benchmark import Tables, benchmark_names
from perception3d.files import write_json, write_whole
from perception3d.outputs import check_outputs

_DEFAULT_PARTS = ('view', 'stream')


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, prints the tables and writes them as Markdown and JSON; see --help."""
    parser = command_parser(
        __doc__, 'python tools/benchmark.py configs/fast_bev/fast_bev_m0_r18_256x704_cbgs20e_nuscenes.py --part stream'
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='paths, or names of shipped configs')
    parser.add_argument('--part', choices=(*benchmark_names(), 'all'), default='all', help='all: view and stream')
    parser.add_argument('--dtypes', nargs='+', choices=('fp32', 'bf16', 'fp16'), default=['fp32', 'bf16'])
    parser.add_argument('--runs', type=int, default=7, help='runs that each median is taken over')
    parser.add_argument('--device', help="'cpu' or 'cuda'; a GPU if there is one")
    parser.add_argument('--checkpoint', help='weights for the box differences; random ones by default')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V', help='such as data_root')
    parser.add_argument(
        '--out', default='work_dirs/benchmark', metavar='DIR', help='folder of benchmark_<part>.md and .json'
    )
    args = parser.parse_args(argv)
    check_outputs(folders=[args.out])
    for path in args.configs:
        check_first(path, args.checkpoint, args.cfg_options)
    _measure(args, sys.argv[1:] if argv is None else argv)
    return 0


def _measure(args: argparse.Namespace, words: Sequence[str]) -> None:
    import torch

    from perception3d.apis.config import load_config
    from perception3d.apis.option_texts import parse_options
    from perception3d.benchmark import Settings, find_benchmarks
    from perception3d.benchmark.report import machine, markdown_table

    benchmarks = find_benchmarks()
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    settings = Settings(device, args.runs, args.dtypes, args.checkpoint)
    for part in _DEFAULT_PARTS if args.part == 'all' else (args.part,):
        tables: Tables = {}
        for path in args.configs:
            config = load_config(path, parse_options(args.cfg_options))
            for title, rows in benchmarks[part](config, settings).items():
                tables.setdefault(title, []).extend({'config': _short(path), **row} for row in rows)
            print(markdown_table(next(iter(tables.values()))), flush=True)
        command = ['python', 'tools/benchmark.py', *words]
        name = f'benchmark_{part.replace("-", "_")}' + ('' if device.type == 'cpu' else f'_{device.type}')
        facts = {'command': as_typed(shlex.join(command)), 'machine': machine(device)}
        _write(Path(args.out) / name, f'Benchmark: {part}', facts, tables)


def _short(path: str) -> str:
    return Path(path).stem.removeprefix('fast_bev_')


def _write(path: Path, title: str, facts: dict[str, Any], tables: Tables) -> None:
    from perception3d.benchmark.report import markdown_table

    text = [f'# {title}', '', f'`{facts["command"]}`', '']
    text += [', '.join(f'{key}: {value}' for key, value in facts['machine'].items()), '']
    for name, rows in tables.items():
        text += [f'## {name}', '', markdown_table(rows), '']
    print('\n'.join(text))
    with write_whole(path.with_suffix('.md')) as temporary:
        temporary.write_text('\n'.join(text), encoding='utf-8')
    write_json(path.with_suffix('.json'), {**facts, **tables}, indent=1)
    print(f'written to {path}.md and .json')
