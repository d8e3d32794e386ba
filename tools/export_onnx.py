"""Write the dense part of a detector on pillars as an ONNX file, and check it with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

from perception3d.apis.cli import command_parser, run_tool
from perception3d.outputs import check_outputs


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and exports; see --help."""
    parser = command_parser(__doc__, 'python tools/export_onnx.py CONFIG CKPT --out point_pillars.onnx')
    parser.add_argument('config', help='path of a config; a .py config is code and is run, JSON and YAML are data')
    parser.add_argument('checkpoint', nargs='?', help='path of a checkpoint of that config (default: random weights)')
    parser.add_argument('--out', required=True, metavar='FILE', help='the ONNX file')
    parser.add_argument('--opset', type=int, default=17, help='version of the ONNX operators (default: 17)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='K=V')
    args = parser.parse_args(argv)

    check_outputs(files=[args.out], inputs=[args.config, args.checkpoint])
    from perception3d.apis.config import load_config, parse_options
    from perception3d.apis.export import export_onnx

    config = load_config(args.config, parse_options(args.cfg_options))
    result = export_onnx(config, args.checkpoint, args.out, args.opset)
    print(f'{args.out}: input pillars {tuple(result["input"])}, outputs {", ".join(result["outputs"])}')
    if result['difference'] is None:
        print('not checked: onnxruntime is not installed')
    else:
        print(f'onnxruntime differs from torch by {result["difference"]:.1e} of the largest value')
    return 0


if __name__ == '__main__':
    run_tool(main)
