"""Compares CULane's scores with those of the official C++ tool, image by image, and their times; run by hand.

git clone https://github.com/XingangPan/SCNN && make -C SCNN/tools/lane_evaluation  (needs OpenCV's headers)
python tests/formats/culane/official_culane.py edge-tree /tmp/lanes 500
python tests/formats/culane/official_culane.py compare /tmp/lanes SCNN/tools/lane_evaluation/evaluate
python tests/formats/culane/official_culane.py tree /tmp/many 2000
python tests/formats/culane/official_culane.py time /tmp/many SCNN/tools/lane_evaluation/evaluate
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from perception3d.evaluation.lane_f1 import LaneRule, count_lanes
from perception3d.formats.culane.files import CATEGORIES, read_lines

ROOT = Path(__file__).resolve().parents[3]
SIZE_WH = (1640, 590)
THRESHOLDS = (0.3, 0.5, 0.75)


def lane(rng: np.random.Generator, rows: int = 18) -> np.ndarray:
    """Returns a lane (rows, 2) that bends towards the middle of the image, bottom first."""
    t = np.linspace(0, 1, rows)
    x = rng.uniform(-100, 1740) * (1 - t) + rng.uniform(700, 940) * t + rng.uniform(-150, 150) * t * (1 - t)
    return np.column_stack([x, 589 - 340 * t])


def text_of(points: np.ndarray, digits: int = 3) -> str:
    """Returns the line of a lane, with the space at its end."""
    return ''.join(f'{x:.{digits}f} {y:.{digits}f} ' for x, y in points)


def odd_line(rng: np.random.Generator, farthest: float = 1e39) -> str:
    """Returns a line of one of the cases that surprise; points are up to `farthest` pixels away."""
    points = lane(rng)
    twice = np.repeat(points[:6], [1, 1, 2, 1, 1, 1], axis=0)
    away = points + rng.choice([-3000, 3000, 1e6], (1, 2))
    far = points.copy()
    far[rng.integers(0, 18)] = np.clip(rng.choice([-1e4, 1e4, 3e9, -3e9, 1e30, 1e39], 2), -farthest, farthest)
    return str(rng.choice([
        '', ' ', text_of(points[:1]), text_of(points[:2]), text_of(points[:3]), text_of(twice), text_of(away),
        text_of(far), text_of(points) + '12', text_of(points[:5]) + 'nan 3', 'x y', '1.5.3 4-2 7e 1', '1e400 2 3 4',
        text_of(np.round(points) + 0.5, 1), text_of(points[:2].repeat(2, axis=0)), text_of(points, 0) + '\r',
        text_of(points[rng.permutation(18)]), text_of(points[::-1]), text_of(rng.uniform(-400, 2000, (8, 2))),
        text_of(points[:1].repeat(2, axis=0)), text_of(points.repeat(2, axis=0)[:-1]), text_of(points[:3] - 5000),
        text_of(away), text_of(away),
    ]))  # fmt: skip


def write_tree(out: Path, count: int, seed: int, edge_cases: bool) -> None:
    """Writes annotations below gt/, results below pred/ and lists of `count` images."""
    lists: dict[str, list[str]] = {name: [] for name in CATEGORIES}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name = f'/driver_{number % 3}/0001.MP4/{number:05d}'
        lists[CATEGORIES[number % 9]].append(f'{name}.jpg')
        lanes = [lane(rng) for _ in range(rng.integers(0, 6) if edge_cases else 4)]
        spread = rng.choice([0.5, 4, 15])
        found = [each + rng.normal(0, spread, (1, 2)) * [1, 0] + rng.normal(0, 1, each.shape) for each in lanes]
        sides = {'gt': [text_of(each) for each in lanes], 'pred': [text_of(each, 0) for each in found]}
        for side, lines in sides.items():
            if edge_cases:
                lines += [odd_line(rng) for _ in range(rng.integers(0, 3))]
                # Several predictions of one lane, a little apart, are what the tolerance of the assignment decides.
                lines += [text_of(each + rng.normal(0, 2, (1, 2)) * [1, 0]) for each in lanes[:2] * rng.integers(0, 3)]
                lines = [lines[k] for k in rng.permutation(len(lines))]
            if edge_cases and rng.random() < 0.05:
                continue
            path = out / side / f'{name[1:]}.lines.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            end = '\n' if lines and rng.random() < 0.9 else ''
            path.write_bytes(('\n'.join(lines) + end).encode())
    (out / 'lists').mkdir(exist_ok=True)
    for number, (category, names) in enumerate(lists.items()):
        (out / 'lists' / f'test{number}_{category}.txt').write_text(''.join(f'{name}\n' for name in names))
    (out / 'list.txt').write_text(''.join(f'{name}\n' for names in lists.values() for name in names))


def run_official(tool: Path, tree: Path, names: Path, threshold: float) -> tuple[list[int], dict[str, float]]:
    """Returns TP, FP, FN, and the rates, that the official tool writes for a list."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'out.txt'
        words = ['-a', tree / 'gt', '-d', tree / 'pred', '-i', tree, '-l', names, '-w', '30', '-t', str(threshold)]
        size = ['-c', str(SIZE_WH[0]), '-r', str(SIZE_WH[1]), '-o', out]
        subprocess.run([tool, *words, *size], check=True, capture_output=True)
        text = out.read_text()
    counts = [int(number) for number in re.search(r'tp: (\d+) fp: (\d+) fn: (\d+)', text).groups()]
    return counts, {key: float(value) for key, value in re.findall(r'^(\w+): (\S+)$', text, re.M) if key != 'file'}


def compare(tree: Path, tool: Path) -> int:
    """Prints the images whose counts differ at any threshold; returns how many."""
    rule = LaneRule(SIZE_WH, THRESHOLDS)
    different, totals, lanes = 0, np.zeros((len(THRESHOLDS), 3), int), 0
    names = (tree / 'list.txt').read_text().split()
    for name in names:
        single = tree / 'single.txt'
        single.write_text(f'{name}\n')
        stem = name[1:].removesuffix('.jpg')
        gt, pred = (read_lines(tree / side / f'{stem}.lines.txt') for side in ('gt', 'pred'))
        counts = count_lanes(gt, pred, rule)
        lanes += len(gt) + len(pred)
        for k, threshold in enumerate(THRESHOLDS):
            official, _ = run_official(tool, tree, single, threshold)
            totals[k] += official
            if list(counts.at(k)) != official:
                different += 1
                print(f'{name}, IoU {threshold}: {counts.at(k)}, official {official}')
    print(f'{len(names)} images, {lanes} lanes, {len(names) * len(THRESHOLDS)} counts compared, {different} differ')
    print(json.dumps({str(t): row.tolist() for t, row in zip(THRESHOLDS, totals)}))
    return different


def measure(tree: Path, tool: Path) -> None:
    """Prints the seconds of CPU of both, with their start: all lists at two thresholds, three times in turns."""
    own = [sys.executable, ROOT / 'tools/evaluate.py', 'culane', '--gt', tree / 'gt', '--pred', tree / 'pred']
    own += ['--lists', tree / 'lists', '--iou', '0.3', '0.5', '--jobs', '1']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    for _ in range(3):
        start = _cpu_s()
        subprocess.run(own, env=environment, check=True, capture_output=True)
        middle = _cpu_s()
        run_official(tool, tree, tree / 'list.txt', 0.5)
        own_s, official_s = middle - start, _cpu_s() - middle
        print(f'nine lists, IoU 0.3 and 0.5: {own_s:.2f} s; official, one list, 0.5: {official_s:.2f} s')


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    for name in ('tree', 'edge-tree'):
        trees = commands.add_parser(name)
        trees.add_argument('tree', type=Path)
        trees.add_argument('count', type=int)
        trees.add_argument('--seed', type=int, default=0)
    for name in ('compare', 'time'):
        command = commands.add_parser(name)
        command.add_argument('tree', type=Path)
        command.add_argument('official', type=Path)
    args = parser.parse_args()
    if args.command in ('tree', 'edge-tree'):
        write_tree(args.tree, args.count, args.seed, args.command == 'edge-tree')
        return 0
    tree, official = args.tree.resolve(), args.official.resolve()
    return measure(tree, official) or 0 if args.command == 'time' else int(compare(tree, official) > 0)


if __name__ == '__main__':
    sys.exit(main())
