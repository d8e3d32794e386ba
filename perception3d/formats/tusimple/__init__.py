"""TuSimple: `clips/*/*/20.jpg`, `label_data_*.json`, `test_label.json`, and masks of six lanes drawn from them."""

from __future__ import annotations

import argparse
from typing import Any

from perception3d.formats import Command, Format, simulate_command
from perception3d.public_names import registered_names

_CREATE_DATA = """Info files from a TuSimple tree; draws masks into segGT6/ and writes list6/ where they are missing.

The tree has clips/ and the label files next to it: label_data_0531.json is the split val, all other label_data_*.json
are train, test_label.json is the test (test_tasks_0627.json without lanes). Masks have six lanes; slots 1 to 6 from the
left, 3 and 4 are the borders of the ego lane.
"""

_SIMULATE = """Motorways of the built-in world in the format of TuSimple: clips/ with their last images, label files."""


_EVALUATE = """TuSimple: accuracy, false positives and false negatives of a file of JSON lines, by the official rules.

GT and PRED have one JSON line for each image, with raw_file and lanes, GT with h_samples, PRED with run_time in ms. The
rules are those of evaluate/lane.py of tusimple-benchmark: rows without a lane on both sides count as right, an image
that took more than 200 ms or has more than two lanes too many counts as missed. Rates are in 0..1.
"""


def _add_create_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this format."""
    parser.add_argument('--root', required=True, metavar='DIR', help='the folder that holds clips/ and the label files')
    parser.add_argument('--redraw', action='store_true', help='draw all masks and write the lists of list6/ again')
    parser.add_argument('--width', type=int, default=16, metavar='PX', help='of drawn lanes, pixels (default: 16)')
    parser.add_argument('--jobs', type=int, metavar='N', help='processes (default: one a core for many images)')


def _create_data(args: argparse.Namespace) -> None:
    """Writes the files and prints where they are and what they count."""
    from perception3d.datasets.lane_building import print_lane_summary
    from perception3d.formats.tusimple.info import create_infos

    print_lane_summary(create_infos(args.root, args.redraw, args.width, args.jobs))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Returns the scores and the text to print."""
    from perception3d.formats.tusimple.evaluation.label_files import evaluate_label_files

    return evaluate_label_files(args.gt, args.pred)


FORMAT = Format(
    'tusimple',
    create_data=Command(
        _CREATE_DATA, 'python tools/create_data.py tusimple --root data/tusimple', _add_create_data, _create_data
    ),
    evaluate=Command(
        _EVALUATE,
        'python tools/evaluate.py tusimple --gt data/tusimple/test_label.json --pred pred.json --out metrics.json',
        _add_evaluate,
        _evaluate,
    ),
    simulate=simulate_command(
        _SIMULATE,
        'python tools/simulate.py tusimple --out data/tusimple_sim --profile lanes',
        'perception3d.formats.tusimple.simulate',
    ),
)

__getattr__, __dir__ = registered_names(__name__, 'files')
