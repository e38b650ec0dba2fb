"""Ways for small messages between processes: Flagstone's, and those that people use instead.

Each is made in the parent, and used by forked children, which call `connect(taker)` first.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.peers import own_name

fork = multiprocessing.get_context("fork")
ROOM = 1000  # messages that may wait, where it can be said


class Transport:
    """One way of messages: `put` and `get` wait."""

    put: Callable[[bytes], Any]
    get: Callable[[], Any]

    def connect(self, taker: bool) -> None:
        """In the process that puts, or takes."""

    def close(self) -> None:
        """In the process that made it."""


class Channel(Transport):
    def __init__(self, arena: Any) -> None:
        self.channel = arena.channel(own_name(), capacity=ROOM)
        self.put, self.get = self.channel.put, self.channel.get

    def close(self) -> None:
        self.channel.leave()


class Topic(Transport):
    def __init__(self, arena: Any) -> None:
        self.topic = arena.topic(own_name(), capacity=ROOM)
        self.first = self.topic.subscribe(slow="drop")

    def put(self, item: bytes) -> None:
        self.topic.publish(item, wait=None)

    def connect(self, taker: bool) -> None:
        if taker:
            self.get = self.topic.subscribe(slow="block").get

    def close(self) -> None:
        self.topic.leave()


class Queue(Transport):
    def __init__(self) -> None:
        self.queue = fork.Queue(ROOM)
        self.put, self.get = self.queue.put, self.queue.get

    def close(self) -> None:
        self.queue.close()
        self.queue.join_thread()


class SimpleQueue(Transport):
    def __init__(self) -> None:
        self.queue = fork.SimpleQueue()
        self.put, self.get = self.queue.put, self.queue.get

    def close(self) -> None:
        self.queue.close()


class Pipe(Transport):
    def __init__(self) -> None:
        self.ends = fork.Pipe(duplex=False)
        self.put, self.get = self.ends[1].send_bytes, self.ends[0].recv_bytes

    def close(self) -> None:
        for end in self.ends:
            end.close()


class FasterFifo(Transport):
    def __init__(self) -> None:
        self.queue = importlib.import_module("faster_fifo").Queue(ROOM * 100)

    def put(self, item: bytes) -> None:
        self.queue.put(item, timeout=1e6)

    def get(self) -> Any:
        return self.queue.get(timeout=1e6)


class Zmq(Transport):
    """PUSH and PULL over a socket file."""

    def __init__(self) -> None:
        importlib.import_module("zmq")
        self.folder = tempfile.mkdtemp()

    def connect(self, taker: bool) -> None:
        zmq = importlib.import_module("zmq")
        socket = zmq.Context().socket(zmq.PULL if taker else zmq.PUSH)
        socket.set_hwm(ROOM)
        (socket.bind if taker else socket.connect)(f"ipc://{self.folder}/socket")
        self.put, self.get = socket.send, socket.recv

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class PosixQueue(Transport):
    def __init__(self) -> None:
        posix_ipc = importlib.import_module("posix_ipc")
        flags = posix_ipc.O_CREX
        self.queue = posix_ipc.MessageQueue(f"/{own_name()}", flags, max_message_size=64)
        self.put = self.queue.send

    def get(self) -> Any:
        return self.queue.receive()[0]

    def close(self) -> None:
        self.queue.unlink()
        self.queue.close()


class Iceoryx2(Transport):
    """Publisher and subscriber; it has no waiting of its own for messages, so that takers poll."""

    def __init__(self) -> None:
        self.iox = importlib.import_module("iceoryx2")
        self.name = own_name()

    def connect(self, taker: bool) -> None:
        iox = self.iox
        iox.set_log_level(iox.LogLevel.Fatal)
        self.node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
        builder = self.node.service_builder(iox.ServiceName.new(self.name))
        builder = builder.publish_subscribe(iox.Slice[ctypes.c_uint8])
        builder = builder.subscriber_max_buffer_size(ROOM).enable_safe_overflow(False)
        self.service = builder.open_or_create()
        if taker:
            self.subscriber = self.service.subscriber_builder().buffer_size(ROOM).create()
        else:
            made = self.service.publisher_builder().initial_max_slice_len(64)
            self.publisher = made.create()

    def put(self, item: bytes) -> None:
        loan = self.publisher.loan_slice_uninit(len(item))
        ctypes.memmove(loan.payload().data_ptr, item, len(item))
        loan.assume_init().send()

    def get(self) -> Any:
        while (sample := self.subscriber.receive()) is None:
            os.sched_yield()
        payload = sample.payload()
        item = ctypes.string_at(payload.data_ptr, payload.len())
        sample.delete()
        return item


# ---- by key: put replaces the value of a key, get looks it up


class Store(Transport):
    def __init__(self, arena: Any) -> None:
        self.store = arena.store(own_name())
        self.store["key"] = bytes(24)

    def put(self, item: bytes) -> None:
        self.store["key"] = item

    def get(self) -> Any:
        return bytes(self.store["key"])

    def close(self) -> None:
        self.store.destroy()


class Lmdb(Transport):
    def __init__(self) -> None:
        importlib.import_module("lmdb")
        self.folder = tempfile.mkdtemp(dir="/dev/shm")
        self.connect(True)
        self.put(bytes(24))
        self.environment.close()

    def connect(self, taker: bool) -> None:
        lmdb = importlib.import_module("lmdb")
        self.environment = lmdb.open(self.folder, map_size=1 << 24, sync=False)

    def put(self, item: bytes) -> None:
        with self.environment.begin(write=True) as transaction:
            transaction.put(b"key", item)

    def get(self) -> Any:
        with self.environment.begin() as transaction:
            found = transaction.get(b"key")
        time.sleep(0)
        return found

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class ManagerDict(Transport):
    def __init__(self) -> None:
        self.manager = fork.Manager()
        self.dict = self.manager.dict(key=bytes(24))

    def put(self, item: bytes) -> None:
        self.dict["key"] = item

    def get(self) -> Any:
        return self.dict["key"]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.manager.shutdown()
