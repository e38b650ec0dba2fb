"""An index in SQLite that says where in shared memory each document is.

A handle is 16 bytes and guarantees nothing: it can be stored anywhere, and `arena.get` gives the
object it names or says that it is gone. It never gives another object that took its place.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import flagstone

DOCUMENTS = {"apple": b"a fruit", "granite": b"an igneous rock", "slab": b"a flat stone"}


def look_up(arena_name, index):
    """What another process does, which has nothing but the arena's name and the index."""
    with flagstone.open(arena_name, create=False, readonly=True) as arena:
        database = sqlite3.connect(index)
        for key, handle in database.execute("SELECT key, handle FROM documents ORDER BY key"):
            try:
                print(f"  {key}: {bytes(arena.get(flagstone.Handle(handle))).decode()}")
            except flagstone.StaleHandle:
                print(f"  {key}: no longer there")
        database.close()


def look_up_in_another_process(arena_name, index):
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, arena_name, index], check=True)


def main():
    with (
        tempfile.TemporaryDirectory() as folder,
        flagstone.open(f"documents-{os.getpid()}") as arena,
    ):
        index = str(Path(folder, "index.db"))
        database = sqlite3.connect(index)
        database.execute("CREATE TABLE documents (key TEXT PRIMARY KEY, handle BLOB)")
        # Somebody has to hold the objects: a handle alone does not keep one alive.
        held = {key: arena.put(text) for key, text in DOCUMENTS.items()}
        database.executemany(
            "INSERT INTO documents VALUES (?, ?)",
            [(key, bytes(block.handle)) for key, block in held.items()],
        )
        database.commit()
        database.close()

        print("another process finds:")
        look_up_in_another_process(arena.name, index)

        held.pop("granite").free()
        newer = arena.put(b"quite another thing")  # may well take the place of the one just freed
        print("after one was freed:")
        look_up_in_another_process(arena.name, index)
        del newer


if __name__ == "__main__":
    if len(sys.argv) == 3:
        look_up(*sys.argv[1:])
    else:
        main()
