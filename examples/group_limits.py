"""Tenants share an arena, each with a limit of its own.

The greedy one gets an exception that says who holds the memory; the others notice nothing. When
a tenant goes, one call frees everything it had, whatever it was.
"""

import os

import flagstone

MIB = 1 << 20


def main():
    with flagstone.open(f"tenants-{os.getpid()}", capacity="64MiB") as arena:
        site = arena.group("site", limit="24MiB")
        tenants = {
            name: arena.group(name, parent=site, limit="8MiB") for name in ("ann", "bob", "eve")
        }

        kept = []
        try:
            while True:
                kept.append(arena.alloc(MIB, group=tenants["eve"]))
        except flagstone.GroupLimitExceeded as error:
            print(f"eve has {len(kept)} MiB and gets no more:")
            print(f"  limit of group {error.group!r}: {error.limit // MIB} MiB")
            assert tenants["eve"].usage <= 8 * MIB

        block = arena.alloc(6 * MIB, group=tenants["ann"])
        print(f"ann gets {block.nbytes // MIB} MiB all the same")
        assert site.usage <= 24 * MIB

        tenants["eve"].limit = 12 * MIB
        kept.append(arena.alloc(MIB, group=tenants["eve"]))
        print(f"with a higher limit eve gets one more: {tenants['eve'].usage // MIB} MiB")

        # Eve goes. What is still looked at (`kept`) stays whole until it is let go; the name is
        # free at once.
        before = bytes(kept[0])
        ending = tenants.pop("eve").destroy()
        eve = arena.group("eve", parent=site, limit="8MiB")
        assert bytes(kept[0]) == before
        kept.clear()
        ending.wait(60.0)
        print(f"eve has gone and come back: {eve.usage} bytes charged to her")
        assert eve.usage == 0
        print(f"events of ann: {tenants['ann'].events.limit_hits} limit hits")


if __name__ == "__main__":
    main()
