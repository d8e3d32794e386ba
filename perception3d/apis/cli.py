"""What every command shares: one line for a mistake of the user, and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from perception3d.checks import InputError


def command_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Returns a parser whose --help ends with `example`."""
    return argparse.ArgumentParser(
        description=description, epilog=f'example:\n  {example}', formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run_tool(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Runs a command's `main` and exits: 0 or its own code; 2 with one line for an InputError; 130 when interrupted."""
    try:
        code = main(None) or 0
    except InputError as error:
        sys.stdout.flush()
        print(f'error: {error}', file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    sys.exit(code)
