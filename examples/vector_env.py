"""Environments stepped by worker processes, whose observations are one array that nobody copies.

Run it: python examples/vector_env.py

The loop is that of gymnasium's vector environments: actions go in, a batch of observations,
rewards and ends comes out. Each worker writes its rows of the batch in place; what travels
through the channels is the number of the step.
"""

import multiprocessing

import numpy as np

import flagstone

ENVS, WORKERS, STEPS = 64, 4, 200
SHAPE = (32, 32)


def work(rows, observations, actions, rewards, ended, orders, done):
    """Step the environments of these rows: a point walks over a field until it leaves it."""
    observations, actions = observations.array, actions.array
    rewards, ended = rewards.array, ended.array
    at = np.full((rows.stop - rows.start), SHAPE[1] // 2)
    try:
        while True:
            orders.get()
            at += actions[rows]
            left = (at < 0) | (at >= SHAPE[1])
            at[left] = SHAPE[1] // 2
            observations[rows] = 0
            observations[np.arange(rows.start, rows.stop), :, at] = 1
            rewards[rows] = ~left
            ended[rows] = left
            done.put(rows.start)
    except flagstone.ChannelClosed:
        pass


class VectorEnv:
    """The environments as one: `step(actions)` gives views of the shared batch."""

    def __init__(self, arena):
        self.observations = arena.zeros((ENVS, *SHAPE), np.float32)
        self.actions = arena.zeros(ENVS, np.int64)
        self.rewards = arena.zeros(ENVS, np.float32)
        self.ended = arena.zeros(ENVS, bool)
        self.done = arena.channel("done")
        self.orders = [arena.channel(f"orders-{number}") for number in range(WORKERS)]
        size = ENVS // WORKERS
        batch = (self.observations, self.actions, self.rewards, self.ended)
        self.workers = [
            multiprocessing.Process(
                target=work,
                args=(slice(number * size, (number + 1) * size), *batch, orders, self.done),
            )
            for number, orders in enumerate(self.orders)
        ]
        for worker in self.workers:
            worker.start()

    def step(self, actions):
        self.actions.array[:] = actions
        for orders in self.orders:
            orders.put(True)
        for _ in self.orders:
            self.done.get()
        return self.observations.array, self.rewards.array, self.ended.array

    def close(self):
        for orders in self.orders:
            orders.close()
        for worker in self.workers:
            worker.join()


def main():
    """A random policy that walks."""
    rng = np.random.default_rng(7)
    with flagstone.open(None, capacity="64MiB") as arena:
        envs = VectorEnv(arena)
        total, episodes = 0.0, 0
        for _ in range(STEPS):
            observations, rewards, ended = envs.step(rng.integers(-3, 4, ENVS))
            assert (observations.sum(axis=(1, 2)) == SHAPE[0]).all()  # every row of this step
            total += rewards.sum()
            episodes += ended.sum()
        envs.close()
        print(f"{STEPS} steps of {ENVS} environments, {episodes} episodes, {total:.0f} rewards")
        assert total + episodes == STEPS * ENVS


if __name__ == "__main__":
    main()
