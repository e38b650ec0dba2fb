"""How Blocks travel in Ray's pickles: as names, with a token that says how long they are good for.

Ray's serializer is not told where a pickle goes, nor how often it will be read. So it has no
message in it, which is good for one reader, but the object's handle, and a token; a reader on the
same node looks at the object, one on another node has its bytes from the keeper of the first.

A name is worth nothing without its node. So where the job outlives a node, names go with ballast:
Ray keeps what is that large on the node, in its own store, knows that it is lost with it, and runs
again what made it.
"""

from __future__ import annotations

from typing import Any

import ray.util
from ray.exceptions import RayError

from flagstone._core import Block, Handle
from flagstone.attach import attach
from flagstone.errors import Closed, StaleHandle
from flagstone.ray.member import brought, held, whereabouts

__all__ = ["register"]

Name = tuple[bytes, bytes, bytes, str, str, Any, Any]


def register() -> None:
    """Let this process send Blocks as names. It needs Ray; again is fine."""
    ray.util.register_serializer(Block, serializer=_name_of, deserializer=_block_of)


def _name_of(block: Block) -> Name:
    """What a pickle has in a Block's place: uuid, path, handle, job, node, token, ballast."""
    member, block, token = held(block)
    return (
        member.attachment.uuid,
        member.path,
        bytes(block.handle),
        member.job,
        member.node,
        token,
        member.ballast,
    )


def _block_of(name: Name) -> Block:
    """The Block, or one of this node's own with its bytes."""
    uuid, path, handle, job, node, token, _ = name
    if whereabouts()[1] == node:
        return _look(uuid, path, handle)
    try:
        return brought(job, node, handle, token)
    except (RayError, RuntimeError) as error:
        raise StaleHandle(
            f"this Block lay on node {node}, which is gone (or its keeper is, or the job has"
            " ended), and no other node has read it. Fix: make it again, by a call of what made it"
        ) from error


def _look(uuid: bytes, path: bytes, handle: bytes) -> Block:
    try:
        return attach((uuid, path, None)).resolve(Handle(handle))
    except (StaleHandle, Closed) as error:
        raise StaleHandle(
            f"{error}. Ray counted no more references to it (an actor that is restarted needs what"
            " its constructor was given), or the keeper of this node's arena has ended since it was"
            " sent. Fix: keep the Block or its ObjectRef for as long as it may be asked for, send"
            " it again, or call again what made it"
        ) from None
