"""A kernel that denies one thing: a filter of system calls that looks at their arguments too."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98}
"""`__NR_futex`, by machine: linux/arch/*/include/."""

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
"""BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K of linux/bpf_common.h."""
NUMBER_AT, SECOND_ARGUMENT_AT = 0, 24
"""Of `struct seccomp_data`; the low half of the argument, as both machines are little-endian."""
DENY, ALLOW = 0x0005_0000 | errno.EPERM, 0x7FFF_0000
FUTEX_WAIT, FUTEX_WAKE = 0, 1
"""Without FUTEX_PRIVATE_FLAG, and without the clock that libc asks for in its own shared waits."""


def deny_shared_futexes() -> None:
    """From now on this process and its children may not wait on memory shared with others, nor wake
    who waits there. Locks of libc and of Python are private, and work: see seccomp(2)."""
    program = [
        (LOAD, 0, 0, NUMBER_AT),
        (EQUAL, 0, 4, FUTEX_NUMBERS[platform.machine()]),
        (LOAD, 0, 0, SECOND_ARGUMENT_AT),
        (EQUAL, 1, 0, FUTEX_WAIT),
        (EQUAL, 0, 1, FUTEX_WAKE),
        (RETURN, 0, 0, DENY),
        (RETURN, 0, 0, ALLOW),
    ]
    steps = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filter_of = struct.pack("HP", len(program), ctypes.addressof(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_of, 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
