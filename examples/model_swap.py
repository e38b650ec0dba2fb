"""A model that workers use while it is replaced: none sees half of it, whoever is killed.

Run it: python examples/model_swap.py
"""

import multiprocessing
import os
import signal

import numpy as np

import flagstone


def load(version):
    """A model: arrays that belong together."""
    return {"version": version, "layers": [np.full((200, 200), version) for _ in range(3)]}


def serve(store, stop, served):
    """Answer requests with whatever model is current."""
    answered = 0
    while not stop.is_set():
        model = store["model"]
        assert all((layer == model["version"]).all() for layer in model["layers"])
        answered += 1
    served.put(answered)


def swap(store, versions):
    """Replace the model again and again, until killed."""
    for version in range(1, versions):
        store["model"] = load(version)
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    """Three workers, and loaders that die."""
    with flagstone.open(None, capacity="64MiB") as arena:
        store = arena.store("models")
        first = store.get_or_put("model", lambda: load(0))
        assert first["version"] == 0
        stop = multiprocessing.Event()
        served = arena.channel("served")
        workers = [
            multiprocessing.Process(target=serve, args=(store, stop, served)) for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for _ in range(3):
            loader = multiprocessing.Process(target=swap, args=(store, 20))
            loader.start()
            loader.join()
        stop.set()
        answered = sum(served.get() for _ in workers)
        for worker in workers:
            worker.join()
        print(f"{answered > 0 and 'requests'} answered while 57 models came and 3 loaders died")
        assert store["model"]["version"] == 19


if __name__ == "__main__":
    main()
