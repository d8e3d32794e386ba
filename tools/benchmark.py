"""Measure detectors (size, latency), Fast-BEV, LiDAR detectors and ops next to mmdet3d's, and distillation steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from perception3d.apis.cli import command_parser, run_tool
from perception3d.apis.config import load_config, parse_options
from perception3d.benchmark.distill import benchmark_distill
from perception3d.benchmark.fast_bev import benchmark_view, compare_stream
from perception3d.benchmark.lidar_det import benchmark_lidar, benchmark_lidar_ops
from perception3d.benchmark.model import benchmark_model
from perception3d.benchmark.timing import machine, markdown_table
from perception3d.checks import InputError
from perception3d.files import write_json, write_whole
from perception3d.outputs import check_outputs


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, prints the tables and writes them as Markdown and JSON; see --help."""
    parser = command_parser(
        __doc__, 'python tools/benchmark.py configs/fast_bev/fast_bev_m0_r18_256x704_cbgs20e_nuscenes.py --part stream'
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument('--part', choices=(*_PARTS, 'all'), default='all', help='all: view and stream')
    parser.add_argument('--dtypes', nargs='+', choices=('fp32', 'bf16', 'fp16'), default=['fp32', 'bf16'])
    parser.add_argument('--runs', type=int, default=7, help='runs that each median is taken over')
    parser.add_argument('--device', help="'cpu' or 'cuda'; a GPU if there is one")
    parser.add_argument('--checkpoint', help='weights for the box differences; random ones by default')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='K=V', help='such as data_root, for all but view and stream'
    )
    parser.add_argument('--out', default='docs/results', metavar='DIR', help='folder of benchmark_<part>.md and .json')
    args = parser.parse_args(argv)
    check_outputs(folders=[args.out])
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    parts = ('view', 'stream') if args.part == 'all' else (args.part,)
    for part in parts:
        _write(part, _PARTS[part](args, device), Path(args.out), device)
    return 0


def _measure_view(args: Any, device: torch.device) -> dict[str, list[dict]]:
    rows = []
    for path in args.configs:
        config = _camera_config(path)
        for dtype in args.dtypes:
            rows.append({'config': _short(path), **benchmark_view(config, dtype, device, args.runs)})
            print(markdown_table(rows[-1:]), flush=True)
    return {'View transformation of one sample': rows}


def _measure_stream(args: Any, device: torch.device) -> dict[str, list[dict]]:
    totals, parts = [], []
    for path in args.configs:
        comparison = compare_stream(_camera_config(path), args.dtypes, device, args.runs, args.checkpoint)
        totals += [{'config': _short(path), **row} for row in comparison[0]]
        parts += [{'config': _short(path), **row} for row in comparison[1]]
        print(markdown_table(totals), flush=True)
    return {'One frame, boxes included': totals, 'By part': parts}


def _measure_distill(args: Any, device: torch.device) -> dict[str, list[dict]]:
    return {'One training step': _rows(benchmark_distill, args, device)}


def _measure_model(args: Any, device: torch.device) -> dict[str, list[dict]]:
    return {'One sample': _rows(benchmark_model, args, device)}


def _measure_lidar(args: Any, device: torch.device) -> dict[str, list[dict]]:
    benchmark = functools.partial(benchmark_lidar, checkpoint=args.checkpoint)
    return {'One scan, boxes included': _rows(benchmark, args, device)}


def _measure_lidar_ops(args: Any, device: torch.device) -> dict[str, list[dict]]:
    return {'Ops on the CPU': _rows(benchmark_lidar_ops, args, torch.device('cpu'))}


def _rows(benchmark: Callable[..., Any], args: Any, device: torch.device) -> list[dict]:
    rows = []
    for path in args.configs:
        config = load_config(path, parse_options(args.cfg_options))
        measured = benchmark(config, device, args.runs)
        rows += [{'config': _short(path), **row} for row in (measured if isinstance(measured, list) else [measured])]
        print(markdown_table(rows), flush=True)
    return rows


def _camera_config(path: str) -> Any:
    config = load_config(path)
    if 'image_hw' not in config or 'grids' not in config.model:
        raise InputError(f'{path} is no Fast-BEV config: the benchmark needs image_hw, num_frames and model.grids')
    return config


def _short(path: str) -> str:
    return Path(path).stem.removeprefix('fast_bev_')


def _write(part: str, tables: dict[str, list[dict]], out: Path, device: torch.device) -> None:
    facts = machine(device)
    text = [f'# Benchmark: {part}', '', ', '.join(f'{key}: {value}' for key, value in facts.items()), '']
    for title, rows in tables.items():
        text += [f'## {title}', '', markdown_table(rows), '']
    print('\n'.join(text))
    name = f'benchmark_{part.replace("-", "_")}' + ('' if device.type == 'cpu' else f'_{device.type}')
    with write_whole(out / f'{name}.md') as temporary:
        temporary.write_text('\n'.join(text), encoding='utf-8')
    write_json(out / f'{name}.json', {'machine': facts, **tables}, indent=1)
    print(f'written to {out / name}.md and .json')


_PARTS = {
    'view': _measure_view,
    'stream': _measure_stream,
    'model': _measure_model,
    'distill': _measure_distill,
    'lidar': _measure_lidar,
    'lidar-ops': _measure_lidar_ops,
}


if __name__ == '__main__':
    run_tool(main)
