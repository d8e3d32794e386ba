"""nuScenes detection: mAP, NDS and their parts of a submission file, by the devkit's own code."""

from __future__ import annotations

import argparse

EXAMPLE = 'python tools/evaluate.py nuscenes --gt data/nuscenes --pred results_nusc.json --split val --out metrics.json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that only this format has."""
    parser.add_argument('--version', help='folder of the tables; not needed where there is one')
    parser.add_argument('--split', help='a split whose samples must all be in PRED (default: the samples in PRED)')


def evaluate(args: argparse.Namespace) -> tuple[dict[str, float], str]:
    """Returns the flat scores and the table to print."""
    from perception3d.evaluation.nuscenes_scores import evaluate_submission

    return evaluate_submission(args.gt, args.pred, args.version, args.split)
