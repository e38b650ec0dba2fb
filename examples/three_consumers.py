"""A camera and three consumers, each with a policy of its own, each killed and started again.

The recorder blocks: the camera waits for it, and it misses nothing while it lives. The detector
drops what it is too slow for, and knows how much. The preview wants the newest frame only.

Run it: python examples/three_consumers.py
"""

import multiprocessing
import os
import signal

import numpy as np

import flagstone

FRAMES = 120
POLICIES = {
    "recorder": {"slow": "block"},
    "detector": {"slow": "drop"},
    "preview": {"slow": "drop", "latest": True},
}

KILLED = {"recorder": 10, "detector": 3, "preview": 1}  # after so many frames


def consume(name, topic, reports, killed_after):
    """Read frames, each of which has to be whole; the unlucky one is killed over one of them."""
    seen = 0
    last = -1
    with topic.subscribe(**POLICIES[name]) as subscription:
        reports.put((name, "ready", 0, 0))
        try:
            while True:
                frame = subscription.get().array
                number = int(frame[0, 0])
                assert (frame == number).all(), "torn"
                assert number > last, "not in order"
                if name == "recorder" and last >= 0:
                    assert number == last + 1, "the recorder missed a frame"
                last = number
                seen += 1
                if seen == killed_after:
                    os.kill(os.getpid(), signal.SIGKILL)
        except flagstone.ChannelClosed:
            reports.put((name, "done", seen, subscription.lost))


def start(name, topic, reports, killed_after=0):
    """Start a consumer, and wait until it subscribes."""
    process = multiprocessing.Process(target=consume, args=(name, topic, reports, killed_after))
    process.start()
    assert reports.get() == (name, "ready", 0, 0)
    return process


def main():
    """The camera: it publishes, and starts again who was killed."""
    with flagstone.open(None, capacity="64MiB") as arena:
        topic = arena.topic("frames", capacity=8)
        reports = arena.channel("reports")
        processes = {name: start(name, topic, reports, KILLED[name]) for name in POLICIES}
        again = set()
        for number in range(FRAMES):
            topic.publish(arena.put(np.full((64, 64), number, "i4")), wait=None)
            for name, process in list(processes.items()):
                # Its frame comes soon: each of them is killed once, before the last frames.
                if number == FRAMES // 2 and name not in again:
                    process.join()
                if process.exitcode == -signal.SIGKILL:
                    again.add(name)
                    processes[name] = start(name, topic, reports)
        topic.close()
        done = {}
        for _ in POLICIES:
            name, _, seen, lost = reports.get()
            done[name] = (seen, lost)
        for process in processes.values():
            process.join()
            assert process.exitcode == 0
        assert again == set(POLICIES)
        for name in POLICIES:
            assert done[name][0] > 0
        assert done["recorder"][1] == 0
        print(f"{FRAMES} frames, {len(again)} consumers killed and started again; none was torn")


if __name__ == "__main__":
    main()
