"""Compares the lane table with that of the official tool, bit for bit, and their times; run by hand.

git clone https://github.com/bdd100k/bdd100k
python tests/formats/bdd100k_lane/official_lane_tool.py make /tmp/lanes 40
python tests/formats/bdd100k_lane/official_lane_tool.py compare /tmp/lanes bdd100k
python tests/formats/bdd100k_lane/official_lane_tool.py time /tmp/lanes bdd100k
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from perception3d.formats.bdd100k_lane.evaluation.folders import evaluate_folders
from perception3d.formats.bdd100k_lane.files import TASKS


def draw_markings(rng: np.random.Generator, hw: tuple[int, int], count: int, thickness: int) -> np.ndarray:
    """Returns label bytes (H, W) with random bent markings on the background 255."""
    image = np.full(hw, 255, np.uint8)
    for _ in range(count):
        x = rng.uniform(-0.1, 1.1, 4) * hw[1]
        y = np.sort(rng.uniform(0.3, 1.0, 4)) * hw[0]
        byte = int(rng.integers(0, 8) | rng.integers(0, 4) << 4)
        cv2.polylines(image, [np.stack([x, y], 1).round().astype(np.int32)], False, byte, thickness)
    return image


def make(out: Path, count: int, seed: int, hw: tuple[int, int]) -> None:
    """Writes random label and result PNGs; of each ten results one is missing, one empty and one of random bytes."""
    for part in ('gt', 'pred'):
        (out / part / 'sub').mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        truth = draw_markings(rng, hw, int(rng.integers(0, 12)), int(rng.integers(1, 4)))
        found = np.roll(truth, tuple(rng.integers(-4, 5, 2)), (0, 1))
        found = np.where(rng.random(hw) < 0.002, rng.integers(0, 256, hw), found).astype(np.uint8)
        if index % 10 == 3:
            found = rng.integers(0, 256, hw).astype(np.uint8)
        if index % 10 == 5:
            found = np.full(hw, 255, np.uint8)
        name = f'{"sub/" if index % 4 == 1 else ""}{index:04d}.png'
        cv2.imwrite(str(out / 'gt' / name), truth)
        if index % 10 != 7:
            cv2.imwrite(str(out / 'pred' / name), found)


class _Stub(ModuleType):
    """Stands for modules of `scalabel`, which the rules of the tool do not use: every name in it is `object`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return 1 if name == 'NPROC' else 'AVERAGE' if name == 'AVERAGE' else object


def official_tool(checkout: Path) -> Any:
    """Returns the module `bdd100k.eval.lane` of a checkout, without scalabel."""
    sys.path.insert(0, str(checkout))
    for name in (
        'scalabel', 'scalabel.common', 'scalabel.common.io', 'scalabel.common.parallel', 'scalabel.common.typing',
        'scalabel.common.logger', 'scalabel.eval', 'scalabel.eval.result', 'scalabel.label', 'scalabel.label.to_coco',
        'scalabel.label.typing', 'scalabel.label.utils',
    ):  # fmt: skip
        sys.modules[name] = _Stub(name)
    package = ModuleType('bdd100k.eval')
    package.__path__ = [str(checkout / 'bdd100k' / 'eval')]
    sys.modules['bdd100k.eval'] = package
    typing_module = ModuleType('bdd100k.common.typing')
    typing_module.BDD100KConfig = object
    sys.modules['bdd100k.common.typing'] = typing_module
    return importlib.import_module('bdd100k.eval.lane')


def official_table(tool: Any, tree: Path) -> dict[str, np.ndarray]:
    """Returns the scores of the official tool: attribute -> (classes and mean, 3) percent."""
    utils = importlib.import_module('bdd100k.common.utils')
    truth, found = (utils.list_files(str(tree / part), '.png', with_prefix=True) for part in ('gt', 'pred'))
    pairs = zip(truth, utils.reorder_preds(truth, found))
    return tool.merge_results([tool.eval_lane_per_frame(*pair) for pair in pairs])


def compared(ours: dict[str, Any], theirs: dict[str, np.ndarray]) -> Iterator[tuple[str, float, float]]:
    """Yields the name of a score, ours and the official one."""
    for column, distance in enumerate(('1.0', '2.0', '5.0')):
        for task, names in TASKS.items():
            for row, name in enumerate((*names, 'avg')):
                yield f'{task}/{distance}/{name}', ours[task][distance][name], float(theirs[task][row, column])
        yield f'total/{distance}', ours['total'][distance], float(theirs['AVERAGE'][column])


def compare(tree: Path, checkout: Path) -> int:
    """Prints what differs, and how many scores were compared; returns how many differ."""
    ours, _ = evaluate_folders(tree / 'gt', tree / 'pred', progress=False)
    scores = list(compared(ours, official_table(official_tool(checkout), tree)))
    different = [each for each in scores if each[1] != each[2]]
    for name, own, other in different:
        print(f'{name}: {own!r}, official {other!r}')
    print(f'{len(scores)} scores compared, {len(different)} differ')
    return len(different)


def measure(tree: Path, checkout: Path) -> None:
    """Prints the seconds of CPU an image of both, three times in turns; files are cached, imports left out."""
    tool = official_tool(checkout)
    count = len(list((tree / 'gt').rglob('*.png')))
    for _ in range(3):
        for name, work in (
            ('official', lambda: official_table(tool, tree)),
            ('here', lambda: evaluate_folders(tree / 'gt', tree / 'pred', progress=False)),
        ):
            start = time.process_time()
            work()
            print(
                f'{name:<10}{(time.process_time() - start) / count:8.4f} s of CPU an image, {count} images', flush=True
            )


def main() -> int:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    maker = commands.add_parser('make')
    maker.add_argument('tree', type=Path)
    maker.add_argument('count', type=int)
    maker.add_argument('--seed', type=int, default=0)
    maker.add_argument('--size', type=int, nargs=2, default=(720, 1280), metavar=('H', 'W'))
    for name in ('compare', 'time'):
        command = commands.add_parser(name)
        command.add_argument('tree', type=Path)
        command.add_argument('checkout', type=Path)
    args = parser.parse_args()
    if args.command == 'make':
        make(args.tree, args.count, args.seed, tuple(args.size))
        return 0
    if args.command == 'time':
        measure(args.tree, args.checkout.resolve())
        return 0
    return int(compare(args.tree, args.checkout.resolve()) > 0)


if __name__ == '__main__':
    sys.exit(main())
