"""A pipeline of three stages, whose middle is killed and started again: nothing is missing.

Run it: python examples/pipeline_restart.py
"""

import multiprocessing
import os
import signal

import numpy as np

import flagstone

FRAMES = 60


def read(raw):
    """The first stage: frames, as a camera or a file would give them."""
    for number in range(FRAMES):
        raw.put(np.full((120, 160), number))
    raw.close()


def transform(raw, made, dies_at):
    """The middle: a frame is confirmed when its result is on its way, or somebody else gets it."""
    try:
        while True:
            with raw.get() as frame:
                if frame[0, 0] == dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                made.put(frame * 2)
    except flagstone.ChannelClosed:
        pass


def supervise(raw, made):
    """Start the middle again as often as it dies; it dies over frames 7, 23 and 42."""
    restarts = 0
    for dies_at in (7, 23, 42, None):
        stage = multiprocessing.Process(target=transform, args=(raw, made, dies_at))
        stage.start()
        stage.join()
        restarts += stage.exitcode == -signal.SIGKILL
    made.close()
    return restarts


def write(made, results):
    """The last stage."""
    numbers = []
    try:
        while True:
            frame = made.get()
            assert (frame == frame[0, 0]).all()
            numbers.append(int(frame[0, 0]) // 2)
    except flagstone.ChannelClosed:
        results.put(numbers)


def main():
    """Start all three, and look at what came out."""
    with flagstone.open(None, capacity="64MiB") as arena:
        raw = arena.channel("raw", capacity=8, ack=True)
        made = arena.channel("made", capacity=FRAMES)
        results = arena.channel("results")
        ends = [
            multiprocessing.Process(target=read, args=(raw,)),
            multiprocessing.Process(target=write, args=(made, results)),
        ]
        for stage in ends:
            stage.start()
        restarts = supervise(raw, made)
        numbers = results.get()
        for stage in ends:
            stage.join()
        print(
            f"{len(numbers)} frames arrived, the middle was killed and restarted {restarts} times"
        )
        assert sorted(numbers) == list(range(FRAMES))


if __name__ == "__main__":
    main()
