"""A process that does what it is told: the other end of the stateful test."""

from multiprocessing.connection import Connection

import flagstone


class Worker:
    """Blocks by key, groups by name; every method is a command."""

    def __init__(self, name: str) -> None:
        self.arena = flagstone.open(name, create=False)
        self.cache = self.arena.cache("fixed", size=256)
        self.blocks: dict[int, flagstone.Block] = {}
        self.groups: dict[str, flagstone.Group] = {}

    def _fill(self, key: int, block: flagstone.Block, value: int) -> bytes:
        block.array[:] = value
        self.blocks[key] = block
        return bytes(block.handle)

    def alloc(self, key: int, nbytes: int, group: str | None, value: int) -> bytes:
        """Make an object, 256 bytes from the cache, other sizes from the size classes."""
        if group is not None and group not in self.groups:
            self.groups[group] = self.arena.group(group)
        owner = None if group is None else self.groups[group]
        if nbytes == 256:
            return self._fill(key, self.cache.alloc(group=owner), value)
        return self._fill(key, self.arena.alloc(nbytes, group=owner), value)

    def read(self, key: int) -> bytes:
        return bytes(self.blocks[key])

    def write(self, key: int, value: int) -> None:
        self.blocks[key].array[:] = value

    def drop(self, key: int) -> None:
        del self.blocks[key]

    def free(self, key: int) -> None:
        self.blocks.pop(key).free()

    def send(self, key: int) -> bytes:
        import pickle

        return pickle.dumps(self.blocks[key])

    def take(self, key: int, message: bytes) -> bytes | None:
        """The bytes, or None when it was too late."""
        import pickle

        try:
            self.blocks[key] = pickle.loads(message)
        except flagstone.StaleHandle:
            return None
        return bytes(self.blocks[key])

    def resolve(self, key: int, handle: bytes) -> bytes | None:
        try:
            self.blocks[key] = self.arena.get(flagstone.Handle(handle))
        except flagstone.StaleHandle:
            return None
        return bytes(self.blocks[key])

    def barrier(self) -> None:
        self.arena.barrier(60)


def main(name: str, pipe: Connection) -> None:
    """Obey until told to stop."""
    worker = Worker(name)
    pipe.send("ready")
    while (command := pipe.recv()) is not None:
        method, *arguments = command
        pipe.send(getattr(worker, method)(*arguments))
    worker.blocks.clear()
    worker.groups.clear()
    worker.arena.close()
