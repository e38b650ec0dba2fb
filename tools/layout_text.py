"""layout_text CORE - print a C header with a number that stands for what shared memory means.

Two builds that lay out the arena's file differently must refuse each other's arenas. Sizes and
offsets do not show that two fields changed places, or that states were renumbered; and a list of
fields that somebody has to keep would be forgotten once. So the fingerprint that every arena
carries (core/region/superblock.c) includes this hash of the declarations themselves, token by
token: each field of each structure with its type, each constant, each state. Comments and spaces do
not count; a new name for an old thing does, which only costs that the builds refuse each other.
"""

import hashlib
import re
import sys
from pathlib import Path

# Headers that say what words in shared memory mean, and nothing else.
WHOLE = [
    "region/layout.h",
    "region/descriptors.h",
    "region/processes.h",
    "region/bits.h",
    "region/records.h",
    "region/rings.h",
    "region/forms.h",
    "region/stores.h",
    "refs/word.h",
]
# Of others, the macros whose names match, and enums.
MACROS = {
    "include/flagstone_types.h": r"FST_(?:NAME_MAX|FORMAT_MAX|FORM_OWN)",
    "include/flagstone.h": r"FST_(?:CACHE_\w+|GROUP_\w+)",
    "include/flagstone_channel.h": r"FST_(?:CHANNEL_\w+|SUBSCRIBERS)",
    "include/flagstone_debug.h": r"FST_CACHE_\w+",
    "include/flagstone_store.h": r"FST_STORE_\w+",
    "region/lock.h": r"FST_LOCK_\w+",
    "platform/liveness.h": r"FST_(?:LOCK|HEIRS)_\w+",
    "refs/sender.h": r"FST_INFLIGHT_\w+",
    "alloc/revoke.h": r"FST_OWNER_\w+",
    "alloc/sizeclass.h": r"FST_SIZE_CLASS_\w+",
    "channel/ring.h": r"FST_RING_\w+",
    "store/item.h": r"FST_ITEM_\w+",
}
ENUMS = {
    "include/flagstone_channel.h": "fst_slow",
    "include/flagstone_debug.h": "fst_fault_kind",
    "alloc/names.h": "fst_names",
}


def tokens(text: str) -> list[str]:
    """The tokens of a C text without its comments, and without what declares nothing."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL).replace("\\\n", " ")
    text = re.sub(r"^\s*#\s*(?:include|ifndef|endif)\b.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*#\s*define\s+\w+_H\s*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^static_assert\(.*?\);", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\w+|[^\w\s]", text)


def found(pattern: str, text: str, what: str) -> list[str]:
    """All matches, of which there has to be one."""
    matches = [match[0] for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL)]
    if not matches:
        sys.exit(f"layout_text: {what} is not there any more")
    return matches


def declarations(core: Path) -> list[str]:
    """Everything that counts, as tokens."""
    texts = {name: (core / name).read_text() for name in [*WHOLE, *MACROS, *ENUMS]}
    parts = [texts[name] for name in WHOLE]
    for name, pattern in MACROS.items():
        parts += found(rf"^#define {pattern}\b[^\n]*$", texts[name], f"{pattern} in {name}")
    for name, enum in ENUMS.items():
        parts += found(rf"^enum {enum} \{{.*?\}};", texts[name], f"enum {enum} in {name}")
    return [token for part in parts for token in [*tokens(part), "\n"]]


def fingerprint(core: Path) -> int:
    """64 bits of the hash."""
    text = " ".join(declarations(core))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


if __name__ == "__main__":
    print("/* Made by tools/layout_text.py. */")
    print(f"#define FST_LAYOUT_TEXT {fingerprint(Path(sys.argv[1])):#018x}ull")
