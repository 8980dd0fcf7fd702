"""The process that children are forked from (`server`), as its parent knows it."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from converters.errors import EnvironmentFailure

__all__ = ["Server"]

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # a fork has one thread


class Server:
    """The process that forks children, as this one knows it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._owner = 0
        self._lock = threading.Lock()
        self.modules: dict[str, None] = {}

    def do(self, job: dict[str, Any], arena: int) -> dict[str, Any]:
        """How the child of a job ended: `status`, and `late` where its time was up.

        One job at a time. Raises `EnvironmentFailure` where the server cannot be had.
        """
        if self._owner != os.getpid():  # none yet, or that of the process this is a fork of
            self._owner, self._lock = os.getpid(), threading.Lock()
            self._connection = self._process = None
            atexit.register(self.stop)
        with self._lock:
            return self._done(job, arena)

    def _done(self, job: dict[str, Any], arena: int) -> dict[str, Any]:
        self.modules[job["module"]] = None
        data = json.dumps({**job, "modules": list(self.modules)}).encode() + b"\n"
        try:
            connection = self._connected()
            sent = socket.send_fds(connection, [data], [arena])
            connection.sendall(data[sent:])
            answer = b""
            while not answer.endswith(b"\n"):
                piece = connection.recv(1 << 16)
                if not piece:
                    raise ConnectionError("it ended")
                answer += piece
        except BaseException as error:
            self.stop()  # a child would work for nobody
            if isinstance(error, OSError):
                raise EnvironmentFailure(
                    f"the process that parses files died ({error})",
                    advice="Run it again; --trusted reads without it.",
                ) from error
            raise
        end: dict[str, Any] = json.loads(answer)
        return end

    def stop(self) -> None:
        """End the server, and with it a child that it may have."""
        if self._connection is not None and self._owner == os.getpid():
            self._connection.close()
            if self._process is not None:
                self._process.wait()
        self._connection = self._process = None

    def _connected(self) -> socket.socket:
        if self._connection is None:
            self._connection = self._started()
        return self._connection

    def _started(self) -> socket.socket:
        ours, its = socket.socketpair()
        ours_first = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "converters.sandbox.server", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(ours_first)},
            )
        return ours
