"""The small process that children are forked from: it holds the parsers and parses nothing.

One job at a time, as a line of JSON with the arena's descriptor; the answer is a line with the
child's exit status, and whether its time was up. It ends when its parent's end of the socket
is closed, and its child with it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from converters.sandbox import walls
from converters.sandbox.child import run

__all__ = ["serve"]

_CRASHED = 70


def serve(connection: socket.socket) -> None:
    """Do jobs until the connection is closed."""
    walls.without_network()
    while (found := _job(connection)) is not None:
        job, arena = found
        for module in job["modules"]:
            with suppress(ImportError):  # the child finds out, and says so
                import_module(module)
        gc.freeze()
        child = os.fork()
        if not child:
            _be_the_child(job, arena, connection)
        os.close(arena)
        status, late = _watched(child, connection, job["seconds"])
        connection.sendall(json.dumps({"status": status, "late": late}).encode() + b"\n")


def _job(connection: socket.socket) -> tuple[dict[str, Any], int] | None:
    data, descriptors = b"", list[int]()
    while not data.endswith(b"\n"):
        piece, received, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        if not piece:
            return None
        data += piece
        descriptors += received
    return json.loads(data), descriptors[0]


def _be_the_child(job: dict[str, Any], arena: int, connection: socket.socket) -> None:
    code = _CRASHED
    try:
        os.setsid()
        connection.close()
        walls.end_with_parent()
        run(job, arena)
        code = 0
    finally:
        os._exit(code)


def _watched(child: int, connection: socket.socket, seconds: float) -> tuple[int, bool]:
    """The child's exit status; it is killed when its time is up or the parent has gone."""
    end, late = time.monotonic() + seconds, False
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        late = time.monotonic() > end
        if late or _closed(child, connection, end):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            break
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # whatever it may have left
    return os.waitstatus_to_exitcode(ended[1]), late


def _closed(child: int, connection: socket.socket, end: float) -> bool:
    """Wait for the child's end, some time at most; whether the connection has an end instead."""
    watch = [connection.fileno()]
    if not hasattr(os, "pidfd_open"):
        ready, _, _ = select.select(watch, [], [], 0.005)
        return bool(ready)
    process = os.pidfd_open(child)
    try:
        left = max(end - time.monotonic(), 0) + 0.01
        ready, _, _ = select.select([*watch, process], [], [], left)
    finally:
        os.close(process)
    return watch[0] in ready


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
