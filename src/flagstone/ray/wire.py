"""How Blocks travel in Ray's pickles: as names, with a token that says how long they are good for.

Ray's serializer is not told where a pickle goes, nor how often it will be read. So it has no
message in it, which is good for one reader, but the object's handle, and a token; a reader on the
same node looks at the object, one on another node has its bytes from the keeper of the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray.util
from ray.exceptions import RayError

from flagstone._core import Block, Handle
from flagstone.attach import attach
from flagstone.errors import Closed, StaleHandle
from flagstone.ray.member import fetch, held, put, whereabouts

__all__ = ["register"]

Name = tuple[bytes, bytes, bytes, str, str, Any]


def register() -> None:
    """Let this process send Blocks as names. It needs Ray; again is fine."""
    ray.util.register_serializer(Block, serializer=_name_of, deserializer=_block_of)


def _name_of(block: Block) -> Name:
    """What a pickle has in a Block's place: uuid, path, handle, job, node, token."""
    member, block, token = held(block)
    return (
        member.attachment.uuid,
        member.path,
        bytes(block.handle),
        member.job,
        member.node,
        token,
    )


def _block_of(name: Name) -> Block:
    """The Block, or one of this node's own with its bytes."""
    uuid, path, handle, job, node, _ = name
    if whereabouts()[1] == node:
        return _look(uuid, path, handle)
    return _bring(job, node, handle)


def _look(uuid: bytes, path: bytes, handle: bytes) -> Block:
    try:
        return attach((uuid, path, None)).resolve(Handle(handle))
    except (StaleHandle, Closed) as error:
        raise StaleHandle(
            f"{error}. The keeper of this node's arena has ended since it was sent, with what it"
            " held: send the Block again, or let Ray run again what made it"
        ) from None


def _bring(job: str, node: str, handle: bytes) -> Block:
    try:
        raw, descr, shape, order = fetch(job, node, handle)
    except (RayError, RuntimeError) as error:
        raise StaleHandle(
            f"this Block lay on node {node}, whose keeper cannot be asked for it any more (the node"
            " is gone, or its job has ended): let Ray run again what made it"
        ) from error
    array: Any = np.frombuffer(raw, np.uint8).view(np.lib.format.descr_to_dtype(descr))
    return put(array.reshape(shape, order=order))
