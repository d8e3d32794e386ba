"""Convert ImageNet, nuImages, released Fast-BEV or Cylinder3D weights into a checkpoint for one of our configs."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import command_parser
from perception3d.apis.first_checks import check_first
from perception3d.outputs import check_outputs


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, converts, and prints what matched; see --help."""
    parser = command_parser(
        __doc__,
        'python tools/convert_weights.py fastbev_m0.pth \\\n'
        '      --config configs/fast_bev/fast_bev_m0_r18_256x704_cbgs20e_nuscenes.py --out checkpoints/m0.pth',
    )
    parser.add_argument('source', help='.pth file to convert')
    parser.add_argument(
        '--config', required=True, help='config of the model that the weights are for: a path or a name'
    )
    parser.add_argument('--out', required=True, help='file to write')
    parser.add_argument(
        '--kind',
        help='what the file holds: for Fast-BEV imagenet, nuimages or fastbev, for Cylinder3D cylinder3d or mmdet3d '
        '(default: by its tensor names)',
    )
    parser.add_argument(
        '--allow-pickle', action='store_true', help='load a file that runs code; only if you trust where it comes from'
    )
    args = parser.parse_args(argv)

    check_outputs(files=[args.out], inputs=[args.source, args.config])
    check_first(args.config, args.source)
    from perception3d.apis.weights import convert_weights

    print(convert_weights(args.source, args.config, args.out, args.kind, args.allow_pickle))
    return 0
