"""Programs whose kernel refuses a system call: by seccomp, as containers and sandboxes do it.

A refusal is (system call, error) or (system call, error, argument, mask, value): only where that
argument has that value behind the mask. It holds for the process and for its children.
"""

import ctypes
import errno
import json
import os
import struct
import sys

NUMBERS = {
    "x86_64": {
        "fallocate": 285,
        "fcntl": 72,
        "futex_waitv": 449,
        "getrandom": 318,
        "linkat": 265,
        "madvise": 28,
        "membarrier": 324,
        "memfd_create": 319,
        "openat": 257,
        "statfs": 137,
    },
    "aarch64": {
        "fallocate": 47,
        "fcntl": 25,
        "futex_waitv": 449,
        "getrandom": 278,
        "linkat": 37,
        "madvise": 233,
        "membarrier": 283,
        "memfd_create": 279,
        "openat": 56,
        "statfs": 43,
    },
}[os.uname().machine]

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38


def refuse(*refusals):
    """Have the kernel refuse these from now on, in this process."""
    steps = []
    for call, error, *argument in refusals:
        tests = [(_LOAD, 0, 0, 0), (_EQUAL, 0, None, NUMBERS[call])]
        if argument:
            number, mask, value = argument
            tests += [(_LOAD, 0, 0, 16 + 8 * number), (_AND, 0, 0, mask), (_EQUAL, 0, None, value)]
        tests.append((_RETURN, 0, 0, _ERRNO | getattr(errno, error)))
        # a comparison that fails goes on behind this refusal
        steps += [
            (code, yes, len(tests) - 1 - at if no is None else no, k)
            for at, (code, yes, no, k) in enumerate(tests)
        ]
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if libc.prctl(_PR_SET_SECCOMP, 2, ctypes.c_char_p(program), 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


if __name__ == "__main__":  # filtered.py REFUSALS PROGRAM [ARGUMENT...]
    refuse(*json.loads(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
