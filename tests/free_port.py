"""A port for the processes of one test, so that two runs of the suite on one machine do not meet."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Returns a TCP port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]
