"""hot_paths.py PATH COUNT - a hot path from Python, COUNT times: tools/hot-paths counts the
instructions of the extension in it. Without arguments: the paths.
"""

import os
import sys

import flagstone


def main(path="", count="0"):
    with flagstone.open() as arena:
        cache = arena.cache("thing", shape=8, dtype="u8")
        held = cache.alloc()
        handle = held.handle
        alloc, get = cache.bind().alloc, arena.get
        paths = {
            "python-pair": alloc,
            "python-array": lambda: held.array,
            "python-get": lambda: get(handle),
            "python-alloc": lambda: by_size(100),
            "python-put": lambda: put(small),
            "python-put-array": lambda: put(array),
        }
        by_size, put, small, array = arena.alloc, arena.put, bytes(16), held.array.copy()
        if not path:
            print(*paths)
            return
        call = paths[path]
        for _ in range(int(count)):
            call()
        sys.stdout.flush()
        os._exit(0)  # what the end costs is not of interest


if __name__ == "__main__":
    main(*sys.argv[1:])
