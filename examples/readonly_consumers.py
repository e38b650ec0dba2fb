"""Several web workers share one model, and none of them can spoil it.

A process that attaches with `readonly=True` maps the data without the right to write: an assignment
by mistake is an exception in Python, and a stray write in native code a crash of that worker alone.
"""

import multiprocessing
import os

import numpy as np

import flagstone


def serve(arena_name, handle, requests, answers):
    """A worker: answer requests with the shared weights."""
    with flagstone.open(arena_name, create=False, readonly=True) as arena:
        weights = arena.get(handle).array.view("f4")
        try:
            weights[0] = 0.0
        except ValueError:
            answers.put("read-only")
        try:
            arena.alloc(4096)
        except flagstone.ReadOnly:
            answers.put("no allocation")
        while (request := requests.get()) is not None:
            answers.put(float(weights @ request))
        del weights


def main():
    context = multiprocessing.get_context("spawn")
    requests, answers = context.Queue(), context.Queue()
    with flagstone.open(f"model-{os.getpid()}") as arena:
        weights = np.linspace(0.0, 1.0, 1000, dtype="f4")
        model = arena.put(weights)

        workers = [
            context.Process(target=serve, args=(arena.name, model.handle, requests, answers))
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        refused = sorted(answers.get(timeout=60) for _ in range(4))
        print(f"what the workers may not do: {refused}")
        assert refused == ["no allocation"] * 2 + ["read-only"] * 2

        inputs = [np.full(1000, scale, dtype="f4") for scale in range(6)]
        for one in inputs:
            requests.put(one)
        found = sorted(answers.get(timeout=60) for _ in inputs)
        assert np.allclose(found, [weights @ one for one in inputs])
        print(f"answers: {[round(one) for one in found]}")

        print(f"who uses the model: {len(model.holders)} processes")
        for _ in workers:
            requests.put(None)
        for worker in workers:
            worker.join()


if __name__ == "__main__":
    main()
