"""Score result files against ground truth: no model, no config."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from perception3d.apis.cli import command_parser
from perception3d.apis.formats import parse_arguments
from perception3d.files import write_json
from perception3d.outputs import check_outputs


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, scores, prints the table and writes the JSON file; see --help."""
    parser = command_parser(
        __doc__, 'python tools/evaluate.py nuscenes --gt data/nuscenes --pred results_nusc.json --out metrics.json'
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument('--gt', required=True, metavar='PATH', help='ground truth')
    shared.add_argument('--pred', required=True, metavar='PATH', help='results')
    shared.add_argument('--out', metavar='FILE', help='write the scores to this JSON file')
    args = parse_arguments(parser, 'evaluate', argv, [shared])
    check_outputs(files=[args.out], inputs=[args.gt, args.pred])
    scores, table = args.run(args)
    print(table)
    if args.out:
        write_json(args.out, scores, indent=2)
        print(f'scores written to {args.out}')
    return 0
