"""A queue of jobs whose workers die: every job is done, whoever is killed.

Run it: python examples/job_queue.py
"""

import multiprocessing
import os
import signal

import numpy as np

import flagstone


def work(jobs, results, unlucky):
    """Square arrays until the queue is closed; an unlucky worker is killed over its second job."""
    done = 0
    try:
        while True:
            with jobs.get() as block:
                if unlucky and done == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                results.put(int((block.array**2).sum()))
                done += 1
    except flagstone.ChannelClosed:
        pass


def main():
    """Three workers, one of which dies."""
    with flagstone.open(None, capacity="64MiB") as arena:
        jobs = arena.channel("jobs", capacity=8, ack=True)
        results = arena.channel("results")
        workers = [
            multiprocessing.Process(target=work, args=(jobs, results, number == 0))
            for number in range(3)
        ]
        for worker in workers:
            worker.start()
        for number in range(20):
            jobs.put(arena.put(np.full(1000, number)))
        total = sum(results.get() for _ in range(20))
        jobs.close()
        for worker in workers:
            worker.join()
        killed = sum(worker.exitcode == -signal.SIGKILL for worker in workers)
        print(f"20 jobs done, {killed} worker killed, the sum is {total}")
        assert total == 1000 * sum(number**2 for number in range(20))


if __name__ == "__main__":
    main()
