"""Look at the data of a config: one picture a sample, a scene as MP4 or GIF, or a 3D window.

Only the window needs a display.
"""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import CONFIG_HELP, command_parser
from perception3d.apis.first_checks import check_first


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and draws; see --help."""
    parser = command_parser(
        __doc__,
        'python tools/browse_dataset.py CONFIG --out work_dirs/browse --count 4\n'
        '  python tools/browse_dataset.py CONFIG --out work_dirs/browse --split val --scene scene-0061 --video mp4 '
        '--not-augmented\n'
        '  python tools/browse_dataset.py CONFIG --window --count 3',
    )
    parser.add_argument('config', help=CONFIG_HELP)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument('--out', metavar='DIR', help='folder for the pictures')
    place.add_argument('--window', action='store_true', help='show each sample in a 3D window instead; needs Open3D')
    parser.add_argument('--split', default='train', help='train (default), val or test')
    parser.add_argument('--count', type=int, help='how many samples (default: 10, or the whole scene)')
    parser.add_argument('--indices', type=int, nargs='+', metavar='I', help='samples by their number')
    parser.add_argument('--scene', metavar='NAME', help='the samples of one scene, by its name or token')
    parser.add_argument('--video', choices=['mp4', 'gif'], help='join the pictures in one file')
    parser.add_argument(
        '--view', choices=['all', '3d'], default='all', help='all: cameras and BEV (default); 3d: the scene in space'
    )
    parser.add_argument('--fps', type=float, default=4.0, help='pictures a second of the video (default: 4)')
    parser.add_argument('--not-augmented', action='store_true', help='the images on disk, not those of the pipeline')
    parser.add_argument('--frame', type=int, default=0, help='0: current frame; 1, 2, ..: a history frame')
    parser.add_argument('--seed', type=int, default=0, help='seed of the augmentation')
    parser.add_argument('--width', type=int, default=1920, help='width of a picture in pixels')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    args = parser.parse_args(argv)

    check_first(args.config, options=args.cfg_options, reads_data=True)
    from perception3d.apis.browse import BrowseOptions, browse, show

    options = BrowseOptions(
        split=args.split,
        augmented=not args.not_augmented,
        indices=args.indices,
        count=args.count,
        scene=args.scene,
        video=args.video,
        fps=args.fps,
        frame=args.frame,
        seed=args.seed,
        width_px=args.width,
        view=args.view,
    )
    if args.window:
        print(f'{show(args.config, options, args.cfg_options)} sample(s) shown')
        return 0
    written = browse(args.config, args.out, options, args.cfg_options)
    print(f'{len(written)} file(s) written, the first is {written[0]}' if written else 'no sample was drawn')
    return 0
