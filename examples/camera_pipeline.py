"""A camera fills frames, two detectors look at them, and nobody copies a pixel.

The camera's frames are charged to a group with a limit: when the detectors are behind, `alloc`
waits for memory instead of taking more of it. A frame is freed when its detector drops it.
"""

import multiprocessing
import os

import numpy as np

import flagstone

FRAMES = 300
SHAPE = (48, 64, 3)


def detect(frames, results):
    """The detector: take frames until there are no more."""
    brightness = 0.0
    seen = 0
    while (frame := frames.get()) is not None:
        brightness += float(frame.array.mean())
        seen += 1
        del frame  # the last reference: the object is freed
        frames.task_done()
    frames.task_done()
    results.put((seen, brightness))


def main():
    context = multiprocessing.get_context("spawn")
    queue, results = context.JoinableQueue(), context.Queue()
    detectors = [context.Process(target=detect, args=(queue, results)) for _ in range(2)]
    for detector in detectors:
        detector.start()

    with flagstone.open(f"camera-{os.getpid()}") as arena:
        frames = arena.cache("frame", shape=SHAPE, dtype="u1")
        with arena.group("camera-7", limit="1MiB") as camera:
            for number in range(FRAMES):
                frame = frames.alloc(camera, wait=60.0)
                frame.array[:] = number % 256
                queue.put(frame)
                del frame
            for _ in detectors:
                queue.put(None)
            queue.join()
            peak = camera.peak
        found = [results.get() for _ in detectors]
        for detector in detectors:
            detector.join()

        arena.barrier()
        print(f"{sum(seen for seen, _ in found)} frames of {np.prod(SHAPE)} bytes looked at")
        print(f"mean brightness {sum(light for _, light in found) / FRAMES:.1f}")
        print(f"never more than {peak // 1024} KiB of 1024 KiB in use, {arena.used} bytes left")
        assert sum(seen for seen, _ in found) == FRAMES
        assert peak <= 1 << 20
        assert arena.used == 0


if __name__ == "__main__":
    main()
