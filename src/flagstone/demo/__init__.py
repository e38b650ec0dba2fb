"""The engine of `flagstone demo`: real files flow between processes, some of which are killed.

    readers ──(what they made of a file)──> parent ──> hashers ──(digest)──> parent

The same pipeline runs over three transports: the bytes in a pickle, a
`multiprocessing.shared_memory` segment for each file, and a Flagstone arena with a group for each
file. Only what travels differs. The parent compares every digest with its own reading.

    files       which files, and reading them honestly (they may be unreadable, change, vanish)
    transport   what a transport has to do, and the three that do it: pickled, segments, arena
    workers     the reader and the hasher process
    pipeline    hands out work, collects digests, kills and replaces workers
    run         the whole demo: own reading, three pipelines, what is left over
    report      what came out, and the verdict

Nothing here prints: `flagstone.cli.demo` does.
"""

from __future__ import annotations

from flagstone.demo.pipeline import PipelineBroken, Progress
from flagstone.demo.report import DemoReport
from flagstone.demo.run import DemoOptions, NothingToDo, run_demo

__all__ = ["DemoOptions", "DemoReport", "NothingToDo", "PipelineBroken", "Progress", "run_demo"]
