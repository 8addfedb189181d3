"""Workers on this machine, and what their launcher tells them of one another."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of this machine on which nobody listens, for workers to meet at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
