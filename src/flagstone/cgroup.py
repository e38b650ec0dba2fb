"""Cgroups: where the folder of one is."""

from __future__ import annotations

import os

from flagstone.names import Name, shown

__all__ = ["cgroup_folder"]


def cgroup_folder(path: Name) -> str:
    """The folder of a cgroup.

    Args:
        path: of the folder itself (`/sys/fs/cgroup/job`), or as `/proc/<pid>/cgroup` has it
            (`/job`), below the folder where some hierarchy (v2 or v1) is mounted.

    Raises:
        TypeError: no path.
        ValueError: not absolute.
        FileNotFoundError: there is no such cgroup.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"a cgroup's path must be text or a path, not {type(path).__name__}")
    text = os.fsdecode(path)
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f"a cgroup's path must be absolute: {text!r}")
    folders = [os.path.normpath(mount + text) for mount in _mounts()]
    for folder in [os.path.normpath(text), *folders]:
        if any(_within(folder, mount) for mount in _mounts()) and os.path.isdir(folder):
            return folder
    if os.path.isdir(text):
        raise ValueError(f"{shown(text)} is not the folder of a cgroup")
    raise FileNotFoundError(f"there is no cgroup {shown(text)}")


def _within(folder: str, mount: str) -> bool:
    return folder == mount or folder.startswith(mount.rstrip("/") + "/")


def _mounts() -> list[str]:
    """Where hierarchies of cgroups are mounted: v2 first."""
    found: dict[str, list[str]] = {"cgroup2": [], "cgroup": []}
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in map(os.fsdecode, lines):
            # proc(5): ... (5) mount point (6) options, fields, "-", type of file system ...
            before, _, after = line.partition(" - ")
            kind = after.split(" ", 1)[0]
            if kind in found:
                found[kind].append(before.split(" ")[4].replace("\\040", " "))
    return found["cgroup2"] + found["cgroup"]
