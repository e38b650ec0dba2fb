"""Group: what memory is charged to."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from flagstone._core import Link
from flagstone.attach import OPEN_EXISTING, Locator, attach, fork_generation, locate
from flagstone.bound import GroupBase
from flagstone.cache import Cache, caches_in
from flagstone.cgroup import cgroup_folder
from flagstone.debug import leaks
from flagstone.errors import Closed, FlagstoneError, GroupMismatch
from flagstone.facts import GroupEvents
from flagstone.names import NO_NAME, Name, named, object_name, text
from flagstone.observe import GROUP_STATES, group_limit
from flagstone.sizes import (
    FOREVER,
    Size,
    format_size,
    parse_seconds,
    parse_size,
    to_nanoseconds,
)
from flagstone.states import GROUP_CLOSED, GROUP_LIVE
from flagstone.teardown import Teardown

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstone._core import Attachment, GroupRef
    from flagstone._structs import _GroupInfo

    class _Opened(Protocol):
        def _link_of(self) -> Link: ...
        def leave(self) -> None: ...


__all__ = ["Group"]


class Group(GroupBase):
    """What memory is charged to: a job, tenant, session, request; a tree with limits.

    Made by `Arena.group()`, or by unpickling. An object made so holds the group open for this
    process; those from `Arena.groups`, `parent`, `children` and `Block.group` only look. As a
    context manager it destroys the group when left, if this very object created it in this very
    process, and lets go of it otherwise. It pickles as a reference in flight, good for one load.
    Sizes are bytes. Safe to use from any thread and, after a fork, in the child. Two Group objects
    of one group are equal. What asks the arena about it raises `Closed` once its descriptor was
    released.
    """

    __slots__ = ("__weakref__", "_created_in", "_ending", "_final", "_name")

    def __init__(
        self, link: Link, ident: int, ref: GroupRef | None, name: str | None, created: bool
    ) -> None:
        super().__init__(link, ident, ref)
        self._name = name
        self._created_in = fork_generation() if created else None
        self._ending: Teardown | None = None
        # Usage, peak and the three events, as they were when this object destroyed the group.
        self._final: tuple[int, int, int, int, int] | None = None

    def close(self) -> None:
        """Let the group take no more allocations, in any process. What lives goes on until it is
        dropped, charged to the parent. Again is fine.

        Raises:
            ValueError: the root group.
            ReadOnly: attached with `readonly=True`.
            Closed: the arena was closed here.
        """
        attachment = self._link.attachment  # `Closed`, where it is the arena that is
        with contextlib.suppress(Closed):
            attachment.group_close(self._id)

    def destroy(self) -> Teardown:
        """End the group and free everything in it now: handles and messages in flight end, live
        Blocks and views keep their bytes until they are dropped. The name is free when this
        returns. Waits for no reader, holder or batch. Again gives the same `Teardown`.

        With `FLAGSTONE_TEARDOWN=sync` in the process's environment it waits until everything is
        released, with a grace period for each cache: the way of before Linux 4.11, to compare
        with. It says by `logging` after a second whom it waits for, and a signal's exception ends
        the wait: the group is ended then, and released as usual.

        Raises:
            Closed: somebody else has destroyed it.
            ValueError: the root group.
            ReadOnly: attached with `readonly=True`.
        """
        if self._ending is not None:
            return self._ending
        attachment = self._link.attachment
        leaks(attachment, self._id, self._name or "")
        if attachment.synchronous and self._ref is not None:
            self._final = self._destroy_waiting(attachment)
        else:
            self._final = attachment.group_destroy(self._id)
        self._ending = Teardown(self._link, "group", self._id, self._name or "", self._final[0])
        self._let_go()
        return self._ending

    @property
    def name(self) -> str | None:
        """The name that it was opened by; None if it has none."""
        if self._name is None:
            self._name = text(self._info()["name"])
        return self._name or None

    @property
    def parent(self) -> Group | None:
        """The group it is part of; None for the root group."""
        root = self._link.attachment.root_group
        return None if self._id == root else look(self._link, self._info()["parent"])

    @property
    def children(self) -> list[Group]:
        """The groups in it, not those in these. Looks at all groups of the arena."""
        self._info()
        return groups_of(self._link, self._id)

    @property
    def limit(self) -> int | None:
        """The bytes that it and its descendants may use, in whole pages; None is no limit.

        It may be set, to bytes or text with a unit, which holds at once in every process; below the
        usage, too: then nothing more can be allocated. Setting it raises `ValueError` or
        `TypeError` for what is no size, and `ReadOnly` where this process attached so.
        """
        return group_limit(self._info()["limit"])

    @limit.setter
    def limit(self, limit: Size | None) -> None:
        value = FOREVER if limit is None else parse_size(limit, "limit", 0)
        self._link.attachment.group_set_limit(self._id, value)

    @property
    def messages_expire(self) -> float | None:
        """The seconds after which a message of it that nobody took is dropped; None is never."""
        return self._info()["messages_expire"] / 1e9 or None

    @property
    def usage(self) -> int:
        """Bytes of the pages charged to it and its descendants."""
        return self._info()["usage"] if self._final is None else 0

    @property
    def peak(self) -> int:
        """The most that `usage` ever was."""
        return self._info()["peak"] if self._final is None else self._final[1]

    @property
    def events(self) -> GroupEvents:
        """How often it met its limit, failed to allocate, and had memory reclaimed, so far."""
        if self._final is not None:
            return GroupEvents(*self._final[2:])
        info = self._info()
        return GroupEvents(info["limit_hits"], info["failed"], info["reclaims"])

    @property
    def state(self) -> str:
        """The state: "live", "closed" (takes no more allocations) or "destroyed". Never raises, but
        for `Closed` where the arena was closed here.
        """
        if self._ending is not None:
            return "destroyed"
        attachment = self._link.attachment
        try:
            return GROUP_STATES.get(attachment.group_info(self._id)["state"], "closed")
        except Closed:
            return "destroyed"

    @property
    def cgroup(self) -> str | None:
        """The folder of the Linux cgroup that it ends with, or None."""
        self._info()
        return self._link.attachment.group_cgroup(self._id)

    @property
    def caches(self) -> list[Cache]:
        """The caches that it has objects of."""
        return caches_in(self._link, self._id)

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Leaving never raises: the arena may be closed, the group destroyed by another.
        try:
            if self._created_in == fork_generation():
                self.destroy()
            else:
                self._let_go()
        except FlagstoneError:
            self._let_go()

    def __reduce__(self) -> tuple[Any, ...]:
        attachment = self._link.attachment
        locator = locate(attachment)
        message = attachment.group_share(self._id)
        return load_group, (attachment.ticket(message), locator, message)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return self._id == other._id and self._link.uuid == other._link.uuid

    def __hash__(self) -> int:
        return hash((self._id, self._link.uuid))

    def __repr__(self) -> str:
        if self._ending is not None:
            return f"<Group {self._name or NO_NAME!r}, destroyed>"
        try:
            info = self._info()
            root = self._link.attachment.root_group
        except FlagstoneError:
            return f"<Group {self._name or NO_NAME!r}, gone>"
        name = "of the arena itself" if self._id == root else repr(self.name)
        limit = "" if info["limit"] == FOREVER else f" of {format_size(info['limit'])}"
        return f"<Group {name}, {self.state}, {format_size(info['usage'])}{limit}>"

    def _info(self) -> _GroupInfo:
        # The descriptor stays until a batch has released it; for users it has ended before.
        if self._ending is not None:
            what = named("group", self._name, self._link.attachment.path)
            raise Closed(f"{what} was destroyed: open it again, or take another")
        return self._link.attachment.group_info(self._id)

    def _destroy_waiting(self, attachment: Attachment) -> tuple[int, int, int, int, int]:
        info = self._info()
        self._let_go()  # or destroying would wait for this reference
        try:
            return attachment.group_destroy(self._id)
        except Closed:  # a batch has found it without a reference, and was faster
            return (
                info["usage"],
                info["peak"],
                info["limit_hits"],
                info["failed"],
                info["reclaims"],
            )

    def _let_go(self) -> None:
        if self._ref is not None:
            self._ref.release()


def open_group(
    link: Link,
    name: str | None,
    parent: Group | None,
    limit: Size | None,
    lasting: bool,
    cgroup: Name | None,
    create: int,
    messages_expire: float | None,
    wait: float | None = None,
) -> Group:
    """What `Arena.group` does: everything is checked before anything changes."""
    attachment = link.attachment
    raw_name = None if name is None else object_name(name, "group")
    bound = None if limit is None else parse_size(limit, "limit", 0)
    if lasting and cgroup is not None:
        raise ValueError("a group ends with its cgroup, or is lasting, not both")
    if name is None and create == OPEN_EXISTING:
        raise ValueError(
            "a group without a name cannot be opened, only created: create=False needs a name"
        )
    expire = None
    if messages_expire is not None:
        seconds = parse_seconds(messages_expire, "messages_expire")
        if not seconds:
            raise ValueError("messages_expire must be more than 0 seconds (inf is never)")
        expire = to_nanoseconds(seconds)
        expire = 0 if expire == FOREVER else max(1, expire)
    folder = None if cgroup is None else os.fsencode(cgroup_folder(cgroup))
    above = group_id(link, attachment, parent)

    def mismatch(text: str) -> GroupMismatch:
        if folder is not None or "messages_expire" in text:
            return GroupMismatch(text)
        return GroupMismatch(
            f"{text}: open it without limit=, and set `group.limit = ...` to change it for everyone"
        )

    ref, created = attachment.group_open(
        link,
        raw_name,
        above,
        bound,
        lasting,
        create,
        folder,
        mismatch,
        expire,
        None if wait is None else to_nanoseconds(parse_seconds(wait, "wait")),
    )
    return Group(link, ref.id, ref, name or "", created)


def group_id(link: Link, attachment: Attachment, group: Group | None) -> int:
    """Id of a group, None being the root group; checked to belong to this arena."""
    if group is None:
        return attachment.root_group
    if not isinstance(group, Group):
        raise TypeError(f"a group must be a Group, not {type(group).__name__}")
    if group._link is not link and group._link.uuid != link.uuid:
        raise ValueError(f"{group!r} belongs to another arena")
    return group._id


def insist(
    thing: _Opened,
    kind: str,
    name: str | None,
    group: Group | None,
    home: int,
    mismatch: Callable[[str], Exception],
) -> None:
    """Leave what was opened with `group=`, and raise, if it is there already and another group,
    with this id, is its own. Who gives no group takes what there is.
    """
    if group is None or group._id == home:
        return
    link = thing._link_of()

    def called(ident: int) -> str:
        if ident == link.attachment.root_group:
            return "the arena itself"
        with contextlib.suppress(Closed):
            name = look(link, ident).name
            return f"group {name!r}" if name else "a group without a name"
        return "a group that has ended"

    what = named(kind, name, link.attachment.path)
    text = f"{what} is of {called(home)}, not of {called(group._id)}: open it without group="
    thing.leave()
    raise mismatch(text)


def look(link: Link, ident: int) -> Group:
    """A Group object that does not hold the group open."""
    return Group(link, ident, None, None, False)


def groups_of(link: Link, parent: int | None = None) -> list[Group]:
    """The groups that are not destroyed, without the root group; only those in one."""
    attachment = link.attachment
    root = attachment.root_group
    found = []
    for ident in attachment.group_ids():
        if ident == root:
            continue
        try:
            info = attachment.group_info(ident)
        except Closed:  # released meanwhile
            continue
        if info["state"] in (GROUP_LIVE, GROUP_CLOSED) and parent in (None, info["parent"]):
            found.append(Group(link, ident, None, text(info["name"]), False))
    return found


def load_group(ticket: None, locator: Locator, message: bytes) -> Group:
    """Unpickle: takes the reference in flight."""
    attachment = attach(locator)
    link = Link(attachment)
    ref = attachment.group_take(link, message)
    return Group(link, ref.id, ref, None, False)
