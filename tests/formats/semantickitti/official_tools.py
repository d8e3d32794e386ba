"""Compares the scores with those of the official tools, bit for bit, and their times; run by hand.

git clone https://github.com/PRBonn/semantic-kitti-api
python tests/formats/semantickitti/official_tools.py edge-scans /tmp/scans 20 20000
python tests/formats/semantickitti/official_tools.py compare /tmp/scans semantic-kitti-api
python tests/formats/semantickitti/official_tools.py time /tmp/scans semantic-kitti-api
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from perception3d.formats.semantickitti.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.semantickitti.files import LABEL_IDS

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = {False: 'semantic-kitti.yaml', True: 'semantic-kitti-all.yaml'}
TOOLS = ('evaluate_semantics.py', 'evaluate_semantics_by_distance.py', 'evaluate_panoptic.py')


def make_scans(out: Path, count: int, points: int, seed: int, edge_cases: bool) -> None:
    """Writes random scans as sequence 08, and predictions with moved borders, other classes and objects, and noise.

    `edge_cases`: also scans of 0, 1 and 37 points, points exactly on the borders of rings, and all numbers of objects
    that the official panoptic tool takes (below 32768 in the truth).
    """
    ids = np.array(list(LABEL_IDS.values()), np.uint32)
    thing = (ids < 40) | (ids > 250)
    for part in ('velodyne', 'labels', 'predictions'):
        (out / 'sequences' / '08' / part).mkdir(parents=True, exist_ok=True)
    for scan in range(count):
        rng = np.random.default_rng([seed, scan])
        size = [points, 1, 0, 37, points // 3][scan % 5] if edge_cases else points
        segments = max(1, min(size, size // 40 + 1 if edge_cases else 300))
        segment = np.sort(rng.integers(0, segments, size))
        which = rng.integers(0, len(ids), segments)
        objects = np.where(thing[which], rng.integers(0, 32768 if edge_cases else 200, segments), 0)
        found = np.where(rng.random(segments) < 0.3, rng.integers(0, len(ids), segments), which)
        found_objects = np.where(thing[found], rng.integers(0, 65536, segments), 0)
        moved = np.roll(segment, rng.integers(0, 12))
        truth = (ids[which] | objects.astype(np.uint32) << 16)[segment]
        predicted = (ids[found] | found_objects.astype(np.uint32) << 16)[moved]
        noise = rng.random(size) < 0.05
        predicted[noise] = rng.choice(ids, noise.sum()) | rng.integers(0, 5, noise.sum()).astype(np.uint32) << 16
        xyz = rng.normal(0, 18, (size, 3)) * [1, 1, 0.1]
        if edge_cases and size > 30:
            xyz[:8] = [[10, 0, 0], [0, 20, 0], [0, 0, 0], [30, 0, 0], [50, 0, 0], [6, 8, 0], [1e-8, 0, 0], [1e-9, 0, 0]]
        cloud = np.column_stack([xyz, rng.random(size)])
        for part, content in (('velodyne', cloud.astype('<f4')), ('labels', truth), ('predictions', predicted)):
            suffix = '.bin' if part == 'velodyne' else '.label'
            content.tofile(out / 'sequences' / '08' / part / f'{scan:06d}{suffix}')


def run_official(official: Path, tree: Path, tool: str, multi_scan: bool, *arguments: str) -> dict[str, Any]:
    """Runs one of the official tools and returns the scores that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        config = official / 'config' / CONFIGS[multi_scan]
        words = [sys.executable, '-W', 'ignore', official / tool, '-d', tree, '-s', 'valid', '-dc', config]
        environment = {**os.environ, 'PYTHONPATH': str(official)}
        done = [word.replace('FOLDER', folder) for word in arguments]
        subprocess.run([*words, *done], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return yaml.safe_load(next(Path(folder).glob('*.txt')).read_text())


def official_classes(official: Path, tree: Path, multi_scan: bool) -> dict[str, dict[str, float]]:
    """Returns the panoptic scores of each class, which the official tool rounds in what it writes."""
    sys.path.insert(0, str(official))
    data = yaml.safe_load((official / 'config' / CONFIGS[multi_scan]).read_text())
    lut = np.zeros(max(data['learning_map']) + 100, np.int32)
    lut[list(data['learning_map'])] = list(data['learning_map'].values())
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = importlib.import_module('auxiliary.eval_np').PanopticEval(
            len(data['learning_map_inv']), None, [0], min_points=50
        )
    for file in sorted((tree / 'sequences/08/labels').glob('*.label')):
        truth, found = (
            np.fromfile(file, np.uint32),
            np.fromfile(tree / 'sequences/08/predictions' / file.name, np.uint32),
        )
        evaluator.addBatch(lut[found & 0xFFFF], found, lut[truth & 0xFFFF], truth)
    scores = dict(zip(('pq', 'sq', 'rq'), evaluator.getPQ()[3:]), iou=evaluator.getSemIoU()[1])
    names = {label: data['labels'][number] for label, number in data['learning_map_inv'].items() if label}
    return {name: {key: float(values[label]) for key, values in scores.items()} for label, name in names.items()}


def compared(official: Path, tree: Path, multi_scan: bool) -> Iterator[tuple[str, float, float]]:
    """Yields the name of a score, ours and the official one."""
    ours, _ = evaluate_folders(tree, tree, EvaluationOptions(True, True, multi_scan), progress=False)
    plain, _ = evaluate_folders(tree, tree, EvaluationOptions(multi_scan=multi_scan), progress=False)
    semantics = run_official(official, tree, TOOLS[0], multi_scan, '--codalab', 'FOLDER')
    rings = run_official(official, tree, TOOLS[1], multi_scan, '--codalab')
    panoptic = run_official(official, tree, TOOLS[2], multi_scan, '--output', 'FOLDER')
    parts = [
        ('', ours, ''),
        ('alone/', plain, ''),
        *((f'{r} m/', s, f'{r}.0m_') for r, s in ours['by_distance'].items()),
    ]
    for place, scores, prefix in parts:
        theirs = rings if prefix else semantics
        yield f'{place}miou', scores['miou'], theirs[f'{prefix}iou_mean']
        yield f'{place}accuracy', scores['accuracy'], theirs[f'{prefix}accuracy_mean']
        for name, value in scores['iou'].items():
            yield f'{place}iou/{name}', value, theirs[f'{prefix}iou_{name}']
    found = ours['panoptic']
    for key in ('pq', 'sq', 'rq', 'miou'):
        yield f'panoptic/{key}', found[key], panoptic[f'{key.replace("miou", "iou")}_mean']
    yield 'panoptic/pq_dagger', found['pq_dagger'], panoptic['pq_dagger']
    for group in ('things', 'stuff'):
        for key, value in found[group].items():
            yield f'panoptic/{group}/{key}', value, panoptic[f'{key}_{group}']
    for name, scores in official_classes(official, tree, multi_scan).items():
        for key, value in scores.items():
            yield f'panoptic/{name}/{key}', found['classes'][name][key], value


def compare(tree: Path, official: Path) -> int:
    """Prints what differs, and how many scores were compared; returns how many differ."""
    scores = [each for multi_scan in CONFIGS for each in compared(official, tree, multi_scan)]
    different = [each for each in scores if each[1] != each[2]]
    for name, own, other in different:
        print(f'{name}: {own!r}, official {other!r}')
    print(f'{len(scores)} scores compared, {len(different)} differ')
    return len(different)


def measure(tree: Path, official: Path) -> None:
    """Prints the seconds of CPU of each command, with its start, three times in turns."""
    own = [sys.executable, ROOT / 'tools' / 'evaluate.py', 'semantickitti', '--gt', tree, '--pred', tree]
    options = ([], ['--by-distance'], ['--panoptic'], ['--by-distance', '--panoptic'])
    commands = {tool: [sys.executable, official / tool, '-d', tree, '-s', 'valid'] for tool in TOOLS}
    commands.update({f'evaluate.py semantickitti {" ".join(words)}': [*own, *words] for words in options})
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(3):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            quiet = subprocess.DEVNULL
            environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
            subprocess.run(command, cwd=official, env=environment, check=True, stdout=quiet, stderr=quiet)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for name, values in seconds.items():
        print(f'{name:<55}' + ''.join(f'{value:8.2f}' for value in values))


def main() -> int:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    for name in ('scans', 'edge-scans'):
        scans = commands.add_parser(name)
        scans.add_argument('tree', type=Path)
        for number in ('count', 'points'):
            scans.add_argument(number, type=int)
        scans.add_argument('--seed', type=int, default=0)
    for name in ('compare', 'time'):
        command = commands.add_parser(name)
        command.add_argument('tree', type=Path)
        command.add_argument('official', type=Path)
    args = parser.parse_args()
    if args.command in ('scans', 'edge-scans'):
        make_scans(args.tree, args.count, args.points, args.seed, args.command == 'edge-scans')
        return 0
    tree, official = args.tree.resolve(), args.official.resolve()
    return measure(tree, official) or 0 if args.command == 'time' else int(compare(tree, official) > 0)


if __name__ == '__main__':
    sys.exit(main())
