"""No two builds that lay shared memory out differently take each other's arena for their own: the
fingerprint shows every field that moved and every state with another number.
"""

import importlib.util
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"


def tool():
    spec = importlib.util.spec_from_file_location("layout_text", ROOT / "tools" / "layout_text.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def layout_text():
    return tool()


@pytest.fixture
def copy(tmp_path):
    """The headers and sources that make the fingerprint, to be changed."""
    for name in ["region", "platform", "include", "refs", "alloc", "channel", "store"]:
        shutil.copytree(CORE / name, tmp_path / name)
    return tmp_path


def change(core, name, old, new):
    path = core / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def swapped_fields(text):
    """The header with two neighbouring fields of a structure swapped, for each two."""
    for struct in re.finditer(r"^struct (\w+) \{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL):
        lines = list(re.finditer(r"^    [^/*\n][^;\n]*;[^\n]*\n", struct[2], re.MULTILINE))
        for one, other in itertools.pairwise(lines):
            body = (
                struct[2][: one.start()]
                + other[0]
                + struct[2][one.end() : other.start()]
                + one[0]
                + struct[2][other.end() :]
            )
            yield (
                f"{struct[1]}: {one[0].strip()} {other[0].strip()}",
                text[: struct.start(2)] + body + text[struct.end(2) :],
            )


def renumbered(text):
    """The header with another number for a constant, for each."""
    for one in re.finditer(r"(?<=[A-Z_] = )(\d+)\b|^#define FST_\w+ +(\d+)", text, re.MULTILINE):
        group = 1 if one[1] else 2
        changed = text[: one.start(group)] + str(int(one[group]) + 7) + text[one.end(group) :]
        yield one[0], changed


def test_every_swap_and_every_number_counts(layout_text, copy):
    known = {layout_text.fingerprint(copy): "as it is"}
    swaps, numbers = [], []
    for name in layout_text.WHOLE:
        if name == "refs/word.h":
            continue  # functions
        header = copy / name
        good = header.read_text()
        text = re.sub(r"/\*.*?\*/", "", good, flags=re.DOTALL)
        swaps += (new := list(swapped_fields(text)))
        numbers += (more := list(renumbered(text)))
        for what, changed in [*new, *more]:
            header.write_text(changed)
            assert known.setdefault(layout_text.fingerprint(copy), what) == what
        header.write_text(good)
    assert len(swaps) > 120
    assert len(numbers) > 50


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("include/flagstone_types.h", "FST_NAME_MAX       64 ", "FST_NAME_MAX       96 "),
        ("include/flagstone.h", "FST_CACHE_NO_MERGE        2u", "FST_CACHE_NO_MERGE        8u"),
        ("region/lock.h", "#define FST_LOCK_GEN_SHIFT  12", "#define FST_LOCK_GEN_SHIFT  13"),
        ("platform/liveness.h", "(1 << 20))", "(1 << 21))"),
        ("alloc/revoke.h", "FST_OWNER_REVOKED (1ull << 30)", "FST_OWNER_REVOKED (1ull << 31)"),
        ("alloc/names.h", "FST_NAMES_CACHE, FST_NAMES_SHAPE", "FST_NAMES_SHAPE, FST_NAMES_CACHE"),
        ("refs/word.h", "#define FST_HANDLE_TAG_SHIFT  40", "#define FST_HANDLE_TAG_SHIFT  44"),
        ("region/records.h", "#define FST_DEBUG_TWICE 2u", "#define FST_DEBUG_TWICE 4u"),
        ("include/flagstone_debug.h", "FST_CACHE_CONSISTENCY 16u ", "FST_CACHE_CONSISTENCY 256u "),
        ("include/flagstone_debug.h", "FST_FAULT_RED_ZONE = 1,", "FST_FAULT_RED_ZONE = 7,"),
        (
            "include/flagstone_channel.h",
            "#define FST_SUBSCRIBERS 256u",
            "#define FST_SUBSCRIBERS 512u",
        ),
        ("include/flagstone_channel.h", "FST_SLOW_DROPS = 1,", "FST_SLOW_DROPS = 4,"),
        ("platform/liveness.h", "#define FST_HEIRS_BYTES 64", "#define FST_HEIRS_BYTES 128"),
        ("channel/ring.h", "#define FST_RING_SLACK  64u", "#define FST_RING_SLACK  32u"),
        ("store/item.h", "#define FST_ITEM_INDEX_BITS 30", "#define FST_ITEM_INDEX_BITS 29"),
        ("refs/sender.h", "FST_INFLIGHT_UNSAID    (1u << 31)", "FST_INFLIGHT_UNSAID    (1u << 30)"),
    ],
)
def test_of_words_that_other_headers_explain(layout_text, copy, name, old, new):
    before = layout_text.fingerprint(copy)
    change(copy, name, old, new)
    assert layout_text.fingerprint(copy) != before


def test_the_build_makes_it_anew_when_one_of_them_changes(layout_text):
    rule = re.search(r"^layout_text = .*?^\)", (CORE / "meson.build").read_text(), re.M | re.S)
    inputs = re.findall(r"'([\w/]+\.h)'", rule[0].partition("output:")[0])
    assert sorted(inputs) == sorted({*layout_text.WHOLE, *layout_text.MACROS, *layout_text.ENUMS})


def test_comments_do_not_count(layout_text, copy):
    before = layout_text.fingerprint(copy)
    change(
        copy, "region/layout.h", "#define FST_PAGE          4096u", "#define FST_PAGE 4096u /* */"
    )
    assert layout_text.fingerprint(copy) == before


def fingerprint_of_build(core):
    """What a core built from these sources writes into its arenas."""
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "layout_text.py", core], capture_output=True, check=True
    )
    (core / "layout_text.h").write_bytes(made.stdout)
    (core / "main.c").write_text(
        '#include <stdio.h>\n#include "region/superblock.h"\n'
        'int main(void) { printf("%llx", (unsigned long long)fst_layout_fingerprint()); }\n'
    )
    sources = ["main.c", "region/superblock.c", "platform/error.c"]
    subprocess.run(
        ["cc", "-D_GNU_SOURCE", "-I.", "-Iinclude", "-o", "main", *sources], cwd=core, check=True
    )
    return subprocess.run([core / "main"], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_build_with_two_fields_swapped_has_another_one(copy):
    before = fingerprint_of_build(copy)
    change(
        copy,
        "region/descriptors.h",
        "    uint32_t init_slab;\n    uint32_t init_bytes;\n",
        "    uint32_t init_bytes;\n    uint32_t init_slab;\n",
    )
    assert fingerprint_of_build(copy) != before
