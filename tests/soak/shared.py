"""What the processes of a torture share beside the arena."""

import mmap
import os
import struct
import zlib

import numpy as np

PIPES = 6
BOARD = 64  # handles that anybody may look up
RECORD = struct.Struct("<16sI")  # a handle and its checksum: the board is written without a lock
HEAD = struct.Struct("<QQ")  # stop, wrong
COUNTERS = 64  # operations by worker slot, the supervisor's view of their progress


class Shared:
    """What the processes share beside the arena: plain memory and packet pipes, which may lose,
    repeat and overwrite what is in them.
    """

    def __init__(self):
        size = HEAD.size + 8 * COUNTERS + RECORD.size * BOARD
        self._map = mmap.mmap(-1, size)
        self.counters = np.frombuffer(self._map, "u8", COUNTERS, HEAD.size)
        self._board = HEAD.size + 8 * COUNTERS
        # Packets: what one write wrote, one read reads.
        self.pipes = [os.pipe2(os.O_NONBLOCK | os.O_DIRECT) for _ in range(PIPES)]

    @property
    def stop(self):
        return self._map[0] != 0

    def set_stop(self):
        self._map[0] = 1

    def post(self, number, handle):
        at = self._board + RECORD.size * (number % BOARD)
        self._map[at : at + RECORD.size] = RECORD.pack(handle, zlib.crc32(handle))

    def look(self, number):
        """A handle, or None where there is none or it was torn."""
        at = self._board + RECORD.size * (number % BOARD)
        handle, check = RECORD.unpack(self._map[at : at + RECORD.size])
        return handle if any(handle) and zlib.crc32(handle) == check else None

    def send(self, number, data):
        try:
            os.write(self.pipes[number % PIPES][1], data)
        except BlockingIOError:
            return False
        return True

    def receive(self, number):
        try:
            return os.read(self.pipes[number % PIPES][0], 1 << 16)
        except BlockingIOError:
            return b""
