"""A program for `multiprocessing.shared_memory`, with two imports changed, and its worker killed.

With the standard library, the killed worker's segment would stay until the program ends, and
`close()` would fail where an array looks into it.
"""

import multiprocessing
import os
import signal

import numpy as np

from flagstone.shared_memory import ShareableList, SharedMemory

SHAPE = (1000, 1000)


def brighten(image, progress):
    """Work on the image where it is, and say how far it has come."""
    pixels = np.ndarray(SHAPE, np.uint8, buffer=image.buf)
    for row in range(SHAPE[0]):
        pixels[row] += 1
        progress[1] = row + 1
    progress[0] = "fertig ✓"


def make_and_wait(names):
    """Make a segment, say its name, and be killed."""
    mine = SharedMemory(create=True, size=10_000_000)
    names.put(mine.name)
    signal.pause()


def main():
    context = multiprocessing.get_context("spawn")
    image = SharedMemory(create=True, size=SHAPE[0] * SHAPE[1])
    progress = ShareableList(["noch nicht", 0])
    worker = context.Process(target=brighten, args=(image, progress))
    worker.start()
    worker.join()
    pixels = np.ndarray(SHAPE, np.uint8, buffer=image.buf)
    assert (pixels == 1).all()
    print(f"{progress[0]}: {progress[1]} rows")

    names = context.SimpleQueue()
    other = context.Process(target=make_and_wait, args=(names,))
    other.start()
    name = names.get()
    assert SharedMemory(name).size == 10_000_000
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    try:
        SharedMemory(name)
    except FileNotFoundError:
        print("the killed worker's segment is gone")

    image.close()  # although `pixels` looks into it
    image.unlink()
    progress.shm.unlink()
    assert (pixels == 1).all()  # and it goes on to

    try:
        SharedMemory(create=True, size=1 << 50)
    except OSError as error:
        print(f"too large: {type(error).__name__}")


if __name__ == "__main__":
    main()
