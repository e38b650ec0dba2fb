"""Teardown: what stands for a cache or group that has ended, until its memory is given back."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, Literal

from flagstone.facts import Keeper
from flagstone.observe import keepers
from flagstone.rcu import SLICE, barrier, refuse_in_section
from flagstone.sizes import format_size, many, parse_seconds, to_nanoseconds

if TYPE_CHECKING:
    from flagstone._core import Attachment, Link

__all__ = ["Teardown"]

_MOST: Final = 5
"""Keepers that an error names."""


class Teardown:
    """What `Cache.destroy()` and `Group.destroy()` return: wait for it, poll it, `await` it, or
    ignore it.

    It is done when a batch has released the descriptor: the memory is given back and no code of the
    library will touch it again. A group's waits for the live Blocks and views of its objects, in
    any process; messages in flight and what lies in channels ended with the group, and a pickle
    made later of what is left holds nothing. A cache is destroyed only while nobody uses an object
    of it, so its Teardown waits for readers and a batch alone. Cache, GroupCache, Group and Store
    objects, here or in other processes, keep nothing; a Channel, Topic or Lock of the group keeps
    its memory until it is left. Safe to use from any thread; it cannot be pickled. After the arena
    is closed here, `done` is only what was last seen.
    """

    __slots__ = ("__weakref__", "_batch", "_bytes", "_id", "_kind", "_link", "_name")

    def __init__(
        self,
        link: Link,
        kind: Literal["cache", "group"],
        ident: int,
        name: str,
        nbytes: int,
        done: bool = False,
    ) -> None:
        self._link = link
        self._kind = kind
        self._id = ident
        self._name = name
        self._bytes = nbytes
        self._batch: int | None = link.attachment.info()["batches"] if done else None

    @property
    def done(self) -> bool:
        """Whether everything is released. Does not wait."""
        return self._batch is not None or (
            not self._link.closed and self._look(self._link.attachment)
        )

    @property
    def released_bytes(self) -> int:
        """The bytes that the end gave back, as charged or held when it began; 0 until done."""
        return self._bytes if self.done else 0

    @property
    def batch(self) -> int | None:
        """The number of the batch that released it (the last one finished when that was seen); None
        until done.
        """
        return self._batch if self.done else None

    def wait(self, timeout: float | None = None) -> Literal[True]:
        """Wait until everything is released, running batches if nobody else does; True.

        Args:
            timeout: seconds; None for ever.

        Raises:
            TimeoutError: not released in time; says who keeps it. Its attribute `keepers` has the
                same as a tuple of `Keeper`.
            RuntimeError: called inside `arena.read()`, whose end it would wait for.
            Closed: the arena was closed here meanwhile.
        """
        deadline = time.monotonic() + parse_seconds(timeout, "timeout")
        why = ""
        refuse_in_section(self._link.attachment, "Teardown.wait()")
        while not self.done:
            # Taken anew each time: waiting must not keep the arena attached after close().
            attachment = self._link.attachment
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise self._late(attachment, f"{timeout} s", why)
            try:
                barrier(attachment, min(remaining, 1.0))
                why = ""
            except TimeoutError as error:
                why = str(error)
                continue
            if not self.done:
                # The batches are through and it is not: something alive still uses it.
                attachment.wait_for_memory(to_nanoseconds(min(SLICE, remaining)))
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a Teardown is one process's: others see what has ended, and who keeps it, in the"
            " arena's snapshot()"
        )

    def __await__(self) -> Generator[Any, None, Teardown]:
        return self._until_done().__await__()

    async def _until_done(self) -> Teardown:
        from asyncio import sleep

        # The reaper does the work; a thread that waits for it would cost more than looking now and
        # then.
        pause = 0.0005
        while not self.done:
            refuse_in_section(self._link.attachment, "awaiting a Teardown")
            await sleep(pause)
            pause = min(2 * pause, SLICE)
        return self

    def _late(self, attachment: Attachment, time_given: str, why: str) -> TimeoutError:
        found = keepers(attachment, **{self._kind: self._id})
        who = "; ".join(filter(None, [_kept_by(found), why]))
        error = TimeoutError(
            f"{self._kind} {self._name!r}: not released in {time_given}:"
            f" {who or 'no batch has come to it yet'}"
        )
        error.keepers = tuple(found)  # type: ignore[attr-defined]
        return error

    def _look(self, attachment: Attachment) -> bool:
        gone = attachment.cache_gone if self._kind == "cache" else attachment.group_gone
        if not gone(self._id):
            return False
        self._batch = attachment.info()["batches"]
        return True

    def __repr__(self) -> str:
        state = (
            f"done in batch {self._batch}, {format_size(self._bytes)}" if self.done else "under way"
        )
        return f"<Teardown of {self._kind} {self._name!r}, {state}>"


def _kept_by(found: list[Keeper]) -> str:
    """Who, of what group, how much."""
    parts = [
        f"{'in flight' if one.pid is None else f'process {one.pid} ({one.command})'}"
        f"{', or forked children of it that have no place in the arena' * one.for_children}:"
        f" {format_size(one.bytes)} in {many(one.references, 'reference')}"
        f"{f' of group {one.group!r}' if one.group else ''}"
        for one in found[:_MOST]
    ]
    if len(found) > _MOST:
        parts.append(f"{len(found) - _MOST} more")
    return "kept by " + ", ".join(parts) if parts else ""
