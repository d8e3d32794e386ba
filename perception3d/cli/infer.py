"""Run a trained model on raw files: a picture and a JSON for each frame, and the result file of its format if any.

A video gives one video and one JSON. The paths of the files are printed, and on stderr how fast it was.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

from perception3d.apis.cli import CHECKPOINT_HELP, CONFIG_HELP, command_parser
from perception3d.apis.first_checks import check_first
from perception3d.outputs import check_outputs

INPUTS = (
    'for a camera detector frames (.json) or info files of create_data.py (.pkl), for a LiDAR model clouds (.bin or '
    '.npy) and folders of clouds, each of which is a sequence to the `tracker` of the config; ../calib/ID.txt and '
    '../image_2/ID.png of a KITTI cloud are read if there; for nuScenes LiDAR detectors a bare cloud is a sweep whose '
    'points have the age 0; for a lane detector images, folders of images and videos'
)
OUT = (
    'folder for the pictures, JSON and result files, by token. Old files of these names are replaced, but for inputs '
    'and for labels; all others stay, such as the results of frames that are no longer inputs: for a clean folder '
    'name a new one'
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and infers; see --help."""
    parser = command_parser(
        __doc__,
        'python tools/infer.py CONFIG CKPT frame.json --out work_dirs/pictures\n'
        '  python tools/infer.py CONFIG CKPT training/velodyne/000042.bin --out work_dirs/pictures\n'
        '  python tools/infer.py CONFIG CKPT drive.mp4 --out work_dirs/lanes',
    )
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('checkpoint', help=CHECKPOINT_HELP)
    parser.add_argument('inputs', nargs='+', help=INPUTS)
    parser.add_argument('--out', required=True, metavar='DIR', help=OUT)
    parser.add_argument('--score-thr', type=float, default=0.25, help='draw boxes with at least this score')
    parser.add_argument('--video', choices=['mp4', 'gif'], help='also join the pictures of each INPUT into a video')
    parser.add_argument('--device', help="'cpu', 'cuda', ... (default: a GPU if there is one)")
    parser.add_argument('--amp', action='store_true', help='run the network in bf16')
    parser.add_argument('--fast', action='store_true', help='fold batch norms, use the fastest convolutions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, where the config defines it')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    args = parser.parse_args(argv)

    check_outputs(folders=[args.out])
    check_first(args.config, args.checkpoint, args.cfg_options, inputs=args.inputs)
    from perception3d.apis.config import load_config
    from perception3d.apis.inferencer import Inferencer
    from perception3d.apis.option_texts import parse_options

    config = load_config(args.config, parse_options(args.cfg_options))
    inferencer = Inferencer(config, args.checkpoint, args.device, args.amp, args.fast, args.tta)
    start = time.perf_counter()
    for path in args.inputs:
        for written in inferencer.write(path, args.out, args.score_thr, args.inputs, args.video):
            print(written)
    # The output is the list of files, for other commands to read.
    print(_speed(inferencer.model_s, time.perf_counter() - start), file=sys.stderr)
    return 0


def _speed(model_s: Sequence[float], whole_s: float) -> str:
    """Says how many frames a second there were; the first frame, in which kernels are prepared, only of one alone."""
    usual_s = statistics.median(model_s[1:] or model_s)
    return (
        f'{len(model_s)} frames in {whole_s:.1f} s ({len(model_s) / whole_s:.1f} a second with reading, drawing and '
        f'writing); the model takes {1000 * usual_s:.1f} ms a frame ({1 / usual_s:.1f} FPS)'
    )
