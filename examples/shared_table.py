"""One table, put into shared memory once, and read in place by every worker.

Each worker aggregates a part of the rows; the columns it looks at are the Block's own bytes. With
polars a worker would say `polars.DataFrame(block)`, with pandas `block.table.to_pandas(...)`.

Run it: python examples/shared_table.py   (needs pyarrow)
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import flagstone

ROWS = 200_000


def total(block, city):
    """The sales of a city, and whether a column is where the table was put."""
    table = block.table
    rows = table.filter(pc.equal(table["city"], city))
    amount = table["amount"].chunk(0).to_numpy()
    return pc.sum(rows["amount"]).as_py(), flagstone.block_of(amount)[0].handle == block.handle


def main():
    cities = ["Graz", "Lyon", "Oslo", "Porto"]
    sales = pa.table(
        {
            "city": pa.array([cities[n % len(cities)] for n in range(ROWS)]),
            "amount": pa.array(np.arange(ROWS) % 97),
        }
    )
    context = multiprocessing.get_context("spawn")
    with flagstone.open(f"sales-{os.getpid()}", capacity="64MiB") as arena:
        block = arena.put(sales)  # the only copy
        print(f"{len(sales)} rows in {block.nbytes / 2**20:.1f} MiB")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            tasks = {city: pool.submit(total, block, city) for city in cities}
            found = {city: task.result() for city, task in tasks.items()}
        for city, (amount, in_place) in found.items():
            print(f"{city:>6}: {amount}{' (read in place)' if in_place else ''}")
        assert sum(amount for amount, _ in found.values()) == pc.sum(sales["amount"]).as_py()
        assert all(in_place for _, in_place in found.values())


if __name__ == "__main__":
    main()
