"""Run a trained model on raw files: a picture and a JSON for each frame, and the result file of its format if any."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import CHECKPOINT_HELP, command_parser, run_tool
from perception3d.outputs import check_outputs

INPUTS = (
    'for a camera detector frames (.json) or info files of create_data.py (.pkl), for a LiDAR model clouds (.bin or '
    '.npy); ../calib/ID.txt and ../image_2/ID.png of a KITTI cloud are read if there; for nuScenes LiDAR detectors '
    'a bare cloud is one sweep whose points have the age 0'
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and infers; see --help."""
    parser = command_parser(
        __doc__,
        'python tools/infer.py CONFIG CKPT frame.json --out work_dirs/pictures\n'
        '  python tools/infer.py CONFIG CKPT training/velodyne/000042.bin --out work_dirs/pictures',
    )
    parser.add_argument('config', help='path of a config; a .py config is code and is run, JSON and YAML are data')
    parser.add_argument('checkpoint', help=CHECKPOINT_HELP)
    parser.add_argument('inputs', nargs='+', help=INPUTS)
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder for the pictures, JSON and result files, by token'
    )
    parser.add_argument('--score-thr', type=float, default=0.25, help='draw boxes with at least this score')
    parser.add_argument('--device', help="'cpu', 'cuda', ... (default: a GPU if there is one)")
    parser.add_argument('--amp', action='store_true', help='run the network in bf16')
    parser.add_argument('--fast', action='store_true', help='fold batch norms, use the fastest convolutions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, where the config defines it')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    args = parser.parse_args(argv)

    check_outputs(folders=[args.out])
    from perception3d.apis.config import load_config, parse_options
    from perception3d.apis.inferencer import Inferencer

    config = load_config(args.config, parse_options(args.cfg_options))
    inferencer = Inferencer(config, args.checkpoint, args.device, args.amp, args.fast, args.tta)
    for path in args.inputs:
        for written in inferencer.write(path, args.out, args.score_thr, keep=args.inputs):
            print(written)
    return 0


if __name__ == '__main__':
    run_tool(main)
