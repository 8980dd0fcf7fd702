"""What a parsing child may not do, by the means of the platform it runs on.

Everywhere: limits on time, memory and open files (`setrlimit`). On Linux also: no file is
opened but the given ones and Python's own (Landlock), and no file is written, no socket, no
process made, none traced or signalled (seccomp). Where one of them cannot be had, the child
runs without it, and `put_up` says so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from converters.sandbox import seccomp

__all__ = ["end_with_parent", "put_up", "without_network"]

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWNET = 0x40000000
_OPEN_FILES = 64
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Rights by version of Landlock's interface: files 1 to 5, TCP 4, sockets and signals 6.
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/urandom")
_CAP_DAC_READ_SEARCH = 1 << 2


def put_up(files: Sequence[str], folders: Sequence[str], computing: int, memory: int) -> list[str]:
    """Raise every wall there is; returns what is missing, in words.

    files      may be read. folders  may be listed.
    computing  in seconds. memory  bytes beyond what the process has now.
    """
    lacking = _limits(computing, memory)
    if sys.platform != "linux":
        return [*lacking, "other files, the network and new processes are not closed to it here"]
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # first to go where memory ends
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _without_privileges(libc)
    if reason := _failed(lambda: _landlock(libc, files, folders)):
        lacking.append(f"it can read other files: no Landlock here ({reason})")
    if reason := _failed(lambda: seccomp.install(libc)):
        lacking.append(f"it can reach the network and write: no seccomp here ({reason})")
    return lacking


def end_with_parent() -> None:
    """Let the system kill this process when the one that forked it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def without_network() -> None:
    """Leave the network, where that is permitted; seccomp refuses sockets in any case."""
    if sys.platform == "linux":
        ctypes.CDLL(None).unshare(_CLONE_NEWNET)


def _limits(computing: int, memory: int) -> list[str]:
    import resource

    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": _OPEN_FILES,
        "RLIMIT_CPU": computing,
        "RLIMIT_AS": _size() + memory,
    }
    lacking = []
    for name, limit in wanted.items():
        try:
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            # Past the soft limit the signal says why: SIGXCPU.
            above = limit + 1 if name == "RLIMIT_CPU" and limit != hard else limit
            resource.setrlimit(kind, (limit, above))
        except (AttributeError, OSError, ValueError) as error:
            lacking.append(f"no limit {name} here ({error})")
    return lacking


def _size() -> int:
    """Bytes of address space that this process has already."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 1 << 32
    return pages * os.sysconf("SC_PAGE_SIZE")


def _without_privileges(libc: ctypes.CDLL) -> None:
    """Of root's capabilities keep that of reading a file that another user owns."""
    if os.geteuid() == 0:
        header = np.array([0x20080522, 0], np.uint32)
        kept = np.array([_CAP_DAC_READ_SEARCH, _CAP_DAC_READ_SEARCH, 0, 0, 0, 0], np.uint32)
        libc.capset(header.ctypes.data_as(ctypes.c_void_p), kept.ctypes.data_as(ctypes.c_void_p))


def _landlock(libc: ctypes.CDLL, files: Sequence[str], folders: Sequence[str]) -> None:
    version = _call(libc, _CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    rights = max(bits for least, bits in _RIGHTS.items() if least <= version)
    words = [(1 << rights) - 1, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0]
    words = words[: 1 if version < 4 else 2 if version < 6 else 3]
    attribute = np.array(words, np.uint64)
    ruleset = _call(
        libc,
        _CREATE_RULESET,
        attribute.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_size_t(attribute.nbytes),
        0,
    )
    for name in (*_own(), *_LIBRARIES):
        _allow(libc, ruleset, name, _READ_FILE | _READ_DIR)
    for name in files:
        _allow(libc, ruleset, name, _READ_FILE)
    for name in folders:
        _allow(libc, ruleset, name, _READ_DIR)
    _call(libc, _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, name: str, rights: int) -> None:
    try:
        place = os.open(name, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not on this system
    try:
        if not os.path.isdir(name):
            rights &= ~_READ_DIR
        rule = rights.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        _call(libc, _ADD_RULE, ruleset, 1, ctypes.c_char_p(rule), 0)
    finally:
        os.close(place)


def _own() -> set[str]:
    """Where Python and this project lie."""
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places.add(str(Path(np.__file__).parents[1]))
    packages = Path(__file__).parents[2]
    return places | {str(packages / name) for name in ("converters", "netvlad_keras")}


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result: int = libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _failed(put: Callable[[], None]) -> str:
    try:
        put()
    except (OSError, AttributeError, ValueError) as error:
        return str(error)
    return ""
