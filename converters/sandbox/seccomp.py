"""A seccomp filter: system calls that a parser never needs fail with "not permitted".

Classic BPF over the number and arguments of each call (linux/seccomp.h, linux/filter.h).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["install"]

_PR_SET_SECCOMP, _FILTER = 22, 2
_ALLOW, _DENY, _ABSENT = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_CLONE_THREAD = 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class _Machine:
    """Numbers of system calls; `opens` maps one to which of its arguments is the flags."""

    audit: int
    denied: tuple[int, ...]
    absent: tuple[int, ...]
    opens: Mapping[int, int]
    clone: int


# Denied: sockets; execve; kill, ptrace and the like; files made, renamed, removed or changed;
# namespaces and mounts; io_uring, bpf, keys, perf. Absent: clone3 and openat2, whose arguments
# lie where a filter cannot look; the C library falls back on the older ones.
_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        denied=(
            *(41, 42, 49, 59, 322, 57, 58, 62, 200, 234, 101, 310, 311, 424, 434, 438),
            *(76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133, 258, 259, 260, 263),
            *(264, 265, 266, 268, 316, 165, 166, 272, 308, 425, 321, 323, 248, 249, 250, 298),
        ),
        absent=(435, 437),
        opens={2: 1, 257: 2},
        clone=56,
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        denied=(
            *(198, 200, 203, 221, 281, 129, 130, 131, 117, 270, 271, 424, 434, 438),
            *(33, 34, 35, 36, 37, 38, 45, 46, 52, 53, 54, 55, 276, 39, 40, 97, 268, 425, 280),
            *(282, 217, 218, 219, 241),
        ),
        absent=(435, 437),
        opens={56: 2},
        clone=220,
    ),
}


def install(libc: ctypes.CDLL) -> None:
    """Filter this process's calls from now on. Raises OSError where that cannot be."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(f"no list of system calls for {os.uname().machine}")
    program = b"".join(_program(machine))
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.c_char_p(filter_), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _program(machine: _Machine) -> list[bytes]:
    lines = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUAL, machine.audit, yes=1),
        _line(_RETURN, _DENY),
        _line(_LOAD, _NUMBER),
        _line(_AT_LEAST, _X32, no=1),
        _line(_RETURN, _DENY),
    ]
    for numbers, verdict in ((machine.denied, _DENY), (machine.absent, _ABSENT)):
        for number in numbers:
            lines += [_line(_EQUAL, number, no=1), _line(_RETURN, verdict)]
    checks = [(number, place, _WRITING, _DENY, _ALLOW) for number, place in machine.opens.items()]
    checks.append((machine.clone, 0, _CLONE_THREAD, _ALLOW, _DENY))
    for number, place, bits, when_set, when_not in checks:
        lines += [
            _line(_EQUAL, number, no=4),
            _line(_LOAD, _ARGUMENTS + 8 * place),
            _line(_ANY_BIT, bits, no=1),
            _line(_RETURN, when_set),
            _line(_RETURN, when_not),
        ]
    return [*lines, _line(_RETURN, _ALLOW)]


def _line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no` are how many to skip."""
    return struct.pack("HBBI", code, yes, no, value)
