"""Write a model as one ONNX file, and compare it with torch by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import CONFIG_HELP, command_parser
from perception3d.apis.first_checks import check_first
from perception3d.outputs import check_outputs


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and exports; see --help."""
    parser = command_parser(__doc__, 'python tools/export.py CONFIG CKPT --out fast_bev.onnx')
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('checkpoint', nargs='?', help='path of a checkpoint of that config (default: random weights)')
    parser.add_argument('--out', required=True, metavar='FILE', help='the ONNX file')
    parser.add_argument(
        '--exporter',
        choices=['torchscript', 'dynamo'],
        default='torchscript',
        help='which of the two exporters of torch writes the file; dynamo needs onnxscript (default: torchscript)',
    )
    parser.add_argument(
        '--opset', type=int, help='version of the ONNX operators (default: 17 for torchscript, 21 for dynamo)'
    )
    parser.add_argument(
        '--sample',
        type=int,
        default=0,
        metavar='N',
        help='camera models: the sample of the test data whose calibration and image size the file has (default: 0)',
    )
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    args = parser.parse_args(argv)

    check_outputs(files=[args.out], inputs=[args.config, args.checkpoint])
    check_first(args.config, args.checkpoint, args.cfg_options)
    from perception3d.apis.config import load_config
    from perception3d.apis.export import export
    from perception3d.apis.option_texts import parse_options

    config = load_config(args.config, parse_options(args.cfg_options))
    result = export(config, args.checkpoint, args.out, exporter=args.exporter, opset=args.opset, sample=args.sample)
    print(result.report(args.out))
    return 0
