"""The two kinds of worker process, and the messages between them and the parent.

Each worker has one pipe of its own, so that one killed in the middle of a message hurts nobody
else: the parent reads an end of file and replaces it. (A `multiprocessing.Queue` has a lock that a
killed process keeps for ever.) Answers come in the order of the tasks, so a message needs no
number; its first byte says what it is.

    parent -> reader    pickle of (path, place)
    reader -> parent    STORED + pickle of what was stored, or FAILED + pickle of (Failure, text)
    parent -> hasher    the reader's message, as it came
    hasher -> parent    DIGEST + 32 bytes, or FAILED + ...
    both, at first      READY

A worker ends when its pipe does.
"""

from __future__ import annotations

import enum
import io
import pickle
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final

from flagstone.demo.files import FileChanged, opened
from flagstone.demo.transport import Endpoint

READY: Final = b"r"
STORED: Final = b"s"
DIGEST: Final = b"d"
FAILED: Final = b"f"


class Failure(enum.Enum):
    """Why a worker could not do its task."""

    CHANGED = "the file changed while it was read"
    READING = "the file could not be read"
    MEMORY = "there was no memory for it"
    BROKEN = "something that should not happen"


def reader(pipe: Connection, endpoint: Endpoint) -> None:
    """Main function of a reader process: take in the files it is told."""

    def store(message: bytes) -> io.BytesIO:
        path, place = pickle.loads(message)
        with opened(path) as source:
            stored = endpoint.store(source, place)
        answer = io.BytesIO()
        answer.write(STORED)
        pickle.dump(stored, answer, pickle.HIGHEST_PROTOCOL)
        return answer

    _serve(pipe, endpoint, store)


def hasher(pipe: Connection, endpoint: Endpoint) -> None:
    """Main function of a hasher process: digests of what readers stored."""

    def digest(message: bytes) -> io.BytesIO:
        return io.BytesIO(DIGEST + endpoint.digest(pickle.loads(memoryview(message)[1:])))

    _serve(pipe, endpoint, digest)


def _serve(pipe: Connection, endpoint: Endpoint, answer: Callable[[bytes], io.BytesIO]) -> None:
    # It is blocked already if the demo started the server that forked this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        endpoint.attach()
    except FileNotFoundError:
        return  # the parent was killed meanwhile, and its arena has gone with it
    try:
        pipe.send_bytes(READY)
        while True:
            message = pipe.recv_bytes()
            pipe.send_bytes(_attempt(answer, message).getbuffer())
    except (EOFError, OSError):
        pass  # the parent closed the pipe, perhaps in the middle of a message
    finally:
        endpoint.detach()


def _attempt(answer: Callable[[bytes], io.BytesIO], message: bytes) -> io.BytesIO:
    """The answer to a message, or what kept it from being found."""
    try:
        return answer(message)
    except FileChanged as error:
        failure, text = Failure.CHANGED, str(error)
    except MemoryError as error:
        failure, text = Failure.MEMORY, str(error)
    except OSError as error:
        failure, text = Failure.READING, str(error)
    except Exception:
        failure, text = Failure.BROKEN, traceback.format_exc()
    return io.BytesIO(FAILED + pickle.dumps((failure, text)))
