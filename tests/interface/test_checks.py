"""tools/checks fail on a tree that is wrong, say where, and pass on one that is mended."""

import shutil

import pytest

from tools import litmus
from tools.checks.__main__ import CHECKS, main


@pytest.fixture
def tree(tmp_path):
    """Write files into a folder of this test's own: names and texts."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.fixture
def found(tree, capsys):
    """What one check says of a tree with these files. Each name may have one text in a test: what
    a file says is remembered.
    """

    def run(check, files, *options):
        root = tree(files)
        status = main(["--root", str(root), *options, check])
        said = capsys.readouterr().out
        assert status == (said.strip() != f"{check}: fine")
        return said

    return run


def test_layers(found):
    said = found(
        "layers",
        {
            "core/platform/low.c": '#include "arena/high.h"\n',
            "core/arena/high.h": "",
            "core/arena/high.c": "int fst_high(void)\n{\n    return 0;\n}\n",
            "core/platform/calls.c": "int fst_high(void);\nint f(void) { return fst_high(); }\n",
            "core/nowhere/odd.c": "",
            "src/flagstone/errors.py": "import flagstone.arena\n",
            "src/flagstone/arena.py": "",
            "src/flagstone/binding/b.h": '#include "flagstone.h"\n#include "arena/high.h"\n',
            "src/flagstone/binding/b.pxi": "from flagstone.arena import Arena\n",
        },
    )
    assert "src/flagstone/binding/b.h:2: arena/high is the core's own" in said
    assert "src/flagstone/binding/b.pxi:1: uses arena, which is a higher layer" in said
    assert "core/platform/low.c:1: uses arena/high, which is a higher layer" in said
    assert "core/platform/calls.c:2: uses arena/high, which is a higher layer" in said
    assert "core/nowhere/odd.c: in no layer" in said
    assert "src/flagstone/errors.py:1: uses arena, which is a higher layer" in said
    assert "there is no refs any more" in said


def test_sources(found):
    said = found(
        "sources",
        {"core/meson.build": "'region/a.c'", "core/region/a.c": "", "core/region/b.c": ""},
    )
    assert said == "core/region/b.c: not listed in core/meson.build\n"


CIRCLE = {
    "core/refs/a.h": '#include "refs/b.h"\n',
    "core/refs/b.h": "",
    "core/refs/b.c": '#include "refs/b.h"\n#include "refs/c.h"\n',
    "core/refs/c.h": '#include "refs/a.h"\n',
}


class TestCircles:
    def test_of_headers_and_their_sources(self, found):
        said = found("circles", CIRCLE)
        assert "a circle: refs/a uses refs/b, which uses refs/c, which uses refs/a" in said

    def test_of_imports_in_functions(self, found):
        said = found(
            "circles",
            {
                "src/flagstone/cache.py": "from flagstone.group import Group\n",
                "src/flagstone/group.py": "def f():\n    from flagstone.cache import Cache\n",
            },
        )
        assert "src/flagstone/cache.py:1: a circle: cache uses group, which uses cache" in said

    def test_of_annotations(self, found):
        later = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import flagstone.cache\n"
        files = {
            "src/flagstone/cache.py": "from flagstone.group import Group\n",
            "src/flagstone/group.py": later,
        }
        said = found("circles", files)
        assert "src/flagstone/cache.py:1: a circle: cache uses group, which uses cache" in said

    def test_not_of_what_the_stub_of_the_binding_names(self, found):
        later = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import flagstone.cache\n"
        files = {
            "src/flagstone/cache.py": "from flagstone._core import Block\n",
            "src/flagstone/_core.pyi": later,
        }
        assert found("circles", files) == "circles: fine\n"

    def test_of_calls(self, found):
        """The includes of these go only downwards."""
        said = found(
            "circles",
            {
                "core/refs/a.h": "void fst_a(void);\nvoid fst_b(void);\n",
                "core/refs/a.c": '#include "refs/a.h"\nvoid fst_a(void)\n{\n    fst_b();\n}\n',
                "core/refs/b.c": '#include "refs/a.h"\n__attribute__((noinline)) void fst_b(void)\n'
                "{\n    run(&fst_a);\n}\n",
            },
        )
        assert said == "core/refs/a.c:4: a circle: refs/a uses refs/b, which uses refs/a\n"

    def test_of_calls_in_the_binding(self, found):
        said = found(
            "circles",
            {
                "src/flagstone/binding/a.c": "void fst_a(void)\n{\n    fst_b();\n}\n",
                "src/flagstone/binding/b.c": "void fst_b(void)\n{\n    fst_a();\n}\n",
            },
        )
        assert "a circle: binding/a uses binding/b, which uses binding/a" in said

    def test_known_by_the_use_that_has_to_go(self, found):
        known = '[circles]\n"core: refs/b -> refs/c" = 1\n'
        assert found("circles", CIRCLE | {"tools/checks/known.toml": known}) == "circles: fine\n"

    def test_known_and_not_needed(self, found):
        """Another use that is on the list has cut the circle already."""
        known = '[circles]\n"core: refs/b -> refs/c" = 1\n"core: refs/c -> refs/a" = 1\n'
        said = found(
            "circles",
            {"core/refs/b.h": "", "core/refs/c.h": '#include "refs/b.h"\n'}
            | {"tools/checks/known.toml": known},
        )
        assert "'core: refs/b -> refs/c' is mended; take it from the list" in said
        assert "'core: refs/c -> refs/a' is mended; take it from the list" in said


class TestAtomics:
    RAW = "int f(int *p) { return __atomic_load_n(p, 0); }\n"

    def test_outside_of_their_home(self, found):
        said = found(
            "atomics",
            {
                "core/platform/atomics.h": self.RAW,
                "core/refs/a.c": self.RAW,
                "src/flagstone/_core.pyx": self.RAW,
                "src/flagstone/binding/b.pxi": self.RAW,
            },
        )
        assert said.splitlines() == [
            "core/refs/a.c:1: __atomic_load_n belongs in core/platform/atomics.h",
            "src/flagstone/_core.pyx:1: __atomic_load_n belongs in core/platform/atomics.h",
            "src/flagstone/binding/b.pxi:1: __atomic_load_n belongs in core/platform/atomics.h",
        ]

    @pytest.mark.parametrize(
        ("count", "said"),
        [(0, "mended"), (1, ""), (2, ""), (3, "known.toml allows 2, there are 3")],
    )
    def test_known(self, found, count, said):
        files = {
            "core/refs/a.c": self.RAW * count,
            "tools/checks/known.toml": '[atomics]\n"core/refs/a.c" = 2\n',
        }
        text = found("atomics", files)
        assert said in text
        assert ("fine" in text) == (not said)

    def test_lowered(self, found, tmp_path):
        files = {
            "core/refs/a.c": self.RAW,
            "tools/checks/known.toml": '[atomics]\n"core/refs/a.c" = 2\n"core/refs/b.c" = 1\n',
        }
        assert found("atomics", files, "--lower") == "atomics: fine\n"
        known = (tmp_path / "tools/checks/known.toml").read_text()
        assert known.endswith('\n[atomics]\n"core/refs/a.c" = 1\n')


def test_header(found):
    said = found(
        "header",
        {
            "core/include/flagstone.h": "int fst_a(void);\nint fst_b(void);\nint fst_c(void);\n"
            "int fst_d(void);\nint fst_e(void);\n/* int fst_f(void); */\n",
            "core/include/flagstone_test.h": "int fst_g(void);\n",
            "core/refs/a.h": "int fst_h(void);\nint fst_i(void);\n"
            "static inline bool same(int a)\n{\n}\nstruct found {\n    int a;\n};\n",
            "core/refs/a.c": "int fst_a(void)\n{\n    return fst_i();\n}\nint fst_i(void)\n{\n}\n",
            "src/flagstone/_core.pyx": "fst_c()\n",
            "src/flagstone/binding/b.c": "int b(void)\n{\n    return fst_b();\n}\n",
            "src/flagstone/_core.pxd": "int fst_d()\n",
            "tests/core/test_a.c": "int main(void) { return fst_e() + fst_g(); }\n",
        },
    )
    assert said.splitlines() == [
        "core/refs/a.h:3: same: a header's names begin with fst_",
        "core/refs/a.h:6: found: a header's names begin with fst_",
        "core/include/flagstone.h:1: fst_a: nobody uses it",
        "core/include/flagstone.h:4: fst_d: nobody uses it",
        "core/include/flagstone.h:5: fst_e: only tests use it",
        "core/refs/a.h:1: fst_h: nobody uses it",
    ]


class TestFields:
    HEADER = """#define FST_NAME_MAX 64
struct fst_thing_info {
    uint64_t id, parent; /* ids */
    char name[FST_NAME_MAX];
    bool alive;
    const char *path;
};
"""
    PXD = """cdef extern from "flagstone.h":
    struct fst_thing_info:
        uint64_t id, parent
        char name[64]
        bint alive
        const char *path

    int other
"""
    PYI = """class _Thing(TypedDict):
    id: int
    parent: int
    name: bytes
    alive: bool
    path: bytes
"""

    SHOWN = "".join(
        f'{name} = one["{name}"]\n' for name in ("id", "parent", "name", "alive", "path")
    )

    def said(self, found, pxd=PXD, pyi=PYI, shown=SHOWN):
        return found(
            "fields",
            {
                "core/include/flagstone.h": self.HEADER,
                "src/flagstone/_core.pxd": pxd,
                "src/flagstone/_structs.pyi": pyi,
                "src/flagstone/observe.py": shown,
            },
        )

    def test_right(self, found):
        assert self.said(found) == "fields: fine\n"

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("        bint alive\n", "", "lacks alive: bool"),
            ("id, parent", "id, parents", "has no parents"),
            ("uint64_t id", "uint32_t id", "id is uint64_t, not uint32_t"),
            ("name[64]", "name[32]", "name is char [64], not char [32]"),
            ("id, parent", "parent, id", "fields in another order"),
            ("fst_thing_info", "fst_thong", "no public header has struct fst_thong"),
        ],
    )
    def test_wrong_for_cython(self, found, old, new, said):
        assert said in self.said(found, pxd=self.PXD.replace(old, new))

    def test_numbers(self, found):
        said = found(
            "fields",
            {
                "core/include/flagstone.h": "#define FST_THING_BIG 2u /* large */\n",
                "core/region/layout.h": "enum fst_thing_state {\n    FST_THING_LIVE = 1,\n};\n",
                "src/flagstone/states.py": "THING_BIG: Final = 2\nTHING_LIVE: Final = 2\n"
                "THING_GONE: Final = 1\n",
            },
        )
        assert said.splitlines() == [
            "src/flagstone/states.py:2: THING_LIVE is 1 in the core, not 2",
            "src/flagstone/states.py:3: THING_GONE is nothing in the core, not 1",
        ]

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("    alive: bool\n", "", "lacks alive: bool"),
            ("name: bytes", "name: str", "name is bytes, not str"),
            ("parent", "parents", "lacks parent: int"),
        ],
    )
    def test_wrong_for_python(self, found, old, new, said):
        assert said in self.said(found, pyi=self.PYI.replace(old, new))

    def test_a_field_that_nobody_sees(self, found):
        shown = self.SHOWN.replace('alive = one["alive"]\n', "")
        assert "nobody reads Thing's alive" in self.said(found, shown=shown)

    def test_a_dataclass_that_takes_the_whole(self, found):
        fields = self.PYI.replace("class _Thing(TypedDict):\n", "")
        assert self.said(found, shown=f"class Thing:\n{fields}") == "fields: fine\n"


class TestMaps:
    STRUCT = """\
#include <stddef.h>
#include <stdint.h>
/* A thing.
{}
 */
struct fst_thing {{
    uint64_t state; /* what it is, among others; */
    uint32_t list[3], pad0;
    uint8_t kind;
    uint64_t next;
}};
"""
    RIGHT = """\
 * struct fst_thing
 *      0       8      20    24     25    32     40
 *      | state | list | pad | kind | pad | next |"""

    def said(self, found, lines, path="core/region/layout.h"):
        return found("maps", {path: self.STRUCT.format(lines)})

    def test_right(self, found):
        assert self.said(found, self.RIGHT) == "maps: fine\n"

    def test_right_in_two_rows(self, found):
        lines = """\
 * struct fst_thing
 *      0       8      20
 *      | state | list |
 *      20    24     25    32     40
 *      | pad | kind | pad | next |"""
        assert self.said(found, lines) == "maps: fine\n"

    def test_of_a_part(self, found):
        lines = " * struct fst_thing\n *      0       8\n *      | state | ..."
        assert self.said(found, lines) == "maps: fine\n"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("kind | pad | next", "kind | pad | prev"),  # another name
            ("32     40", "33     40"),  # a wrong offset
            ("32     40", "32     48"),  # a wrong size
            (" kind | pad |", " kind | gap |"),
            ("8      20    24     25 ", "8            24     25 "),  # a field left out
        ],
    )
    def test_wrong(self, found, old, new):
        lines = self.RIGHT.replace(old, new)
        if "24     25 " in new and "20" not in new:
            lines = lines.replace("| list | pad |", "| list       |")
        assert lines != self.RIGHT
        said = self.said(found, lines)
        assert "core/region/layout.h:5: the map is wrong; the compiler says" in said
        assert self.RIGHT in said

    def test_not_above_its_bar(self, found):
        said = self.said(found, self.RIGHT.replace("8      20 ", "8     20  "))
        assert "core/region/layout.h:5: each offset stands above its bar" in said

    def test_missing_in_the_layout(self, found):
        assert "struct fst_thing has no map" in self.said(found, " * Nothing.")

    def test_missing_elsewhere(self, found):
        assert self.said(found, " * Nothing.", "core/region/other.h") == "maps: fine\n"

    def test_elsewhere(self, found):
        said = self.said(found, self.RIGHT.replace("25 ", "26 "), "core/region/other.h")
        assert "core/region/other.h:5: the map is wrong" in said

    def test_without_a_heading(self, found):
        said = self.said(found, self.RIGHT.replace("struct fst_thing", ""))
        assert "core/region/layout.h:5: a byte map without a heading" in said

    def test_of_bits(self, found):
        lines = " * A word (64 bits).\n *      0     1      64\n *      | one | rest |\n"
        assert self.said(found, lines + self.RIGHT) == "maps: fine\n"


def test_signposts(found):
    said = found(
        "signposts",
        {
            "core/refs/a.c": "/* See refs/b.h, b.h, refs/c.h, sys/mman.h and models/d.pml. */\n"
            "/* fst_here, fst_gone, FST_HERE_*, FST_GONE_*, M_HERE, M_GONE, FST_SAID. */\n"
            'int fst_here(void) { FST_HERE_A; return getenv("FST_SAID"); }\n'
            'const char *s = "refs/nowhere.h fst_nowhere";\n',
            "core/refs/b.h": "",
            "models/e.pml": "#ifdef M_HERE\n#endif\n",
            "src/flagstone/a.py": '"""See `nowhere.py` and a.py."""\n',
            "docs/a.md": "[here](b.md), `core/refs/a.c`, test_NAME.c, docs/c.md\n",
            "docs/b.md": "",
        },
    )
    assert said.splitlines() == [
        "core/refs/a.c:2: there is no fst_gone",
        "core/refs/a.c:2: there is no FST_GONE_*",
        "core/refs/a.c:2: there is no M_GONE",
        "core/refs/a.c:1: there is no file refs/c.h",
        "core/refs/a.c:1: there is no file models/d.pml",
        "src/flagstone/a.py:1: there is no file nowhere.py",
        "docs/a.md:1: there is no file docs/c.md",
    ]


def test_signposts_to_functions(found):
    """A name with "()" is a function or method of the tree, in code or as a string, or one of the
    kernel's; one that only comments know is not there.
    """
    said = found(
        "signposts",
        {
            "core/refs/f.c": "/* there(), a_method(), rcu_barrier() and loaded(), but not gone().\n"
            " * Nor is only_said(), */\n"
            "static int there(void)\n{\n    return 0;\n}\n",
            "src/flagstone/f.py": '"""As gone_too(), and not `there()`."""\n'
            "def a_method():\n    return getattr(library, 'loaded')\n# only_said()\n",
            "models/f.pml": "/* a_rule() */\ninline a_step()\n{\n    skip\n}\n",
            "docs/f.md": "In Python, `anything()`.\n",
        },
    )
    assert sorted(said.splitlines()) == [
        "core/refs/f.c:1: there is no gone()",
        "core/refs/f.c:2: there is no only_said()",
        "models/f.pml:1: there is no a_rule()",
        "src/flagstone/f.py:1: there is no gone_too()",
        "src/flagstone/f.py:4: there is no only_said()",
    ]


def test_signposts_in_recipes(found):
    """Files that build and check have comments, too; what they do themselves is no comment."""
    said = found(
        "signposts",
        {
            "core/refs/r.c": "int fst_in_r;\n",
            "Makefile": "# refs/r.c, and refs/gone_of_make.c\nclean:\n\trm refs/other.c\n",
            "meson.options": "# refs/gone_of_options.c\n",
            "core/meson.build": "# fst_in_r, fst_nowhere_of_meson\nx = 'refs/missing.c'\n",
            "tools/script": "#!/usr/bin/env bash\n# refs/gone_of_a_script.c\n",
            "tools/other": "#!/usr/bin/env python3\n# refs/gone_of_python.c\n",
            "models/run": "#!/bin/sh\n# models/gone_of_run.pml\n",
        },
    )
    assert sorted(said.splitlines()) == [
        "Makefile:1: there is no file refs/gone_of_make.c",
        "core/meson.build:1: there is no fst_nowhere_of_meson",
        "meson.options:1: there is no file refs/gone_of_options.c",
        "models/run:2: there is no file models/gone_of_run.pml",
        "tools/other:2: there is no file refs/gone_of_python.c",
        "tools/script:2: there is no file refs/gone_of_a_script.c",
    ]


def test_lengths(found):
    wide = "/* " + "x" * 100 + " */\n"
    said = found(
        "lengths",
        {
            "core/refs/a.c": wide + "int x; " + wide + "/* short\n * " + "y" * 100 + "\n */\n",
            "core/refs/b.c": "\n" * 601,
            "src/flagstone/a.py": "\n" * 701 + "# " + "z" * 100 + "\n",
            "src/flagstone/_core.pyx": "cdef int " + "z" * 100 + "\n",
            "models/a.pml": "x = 1; " + wide,
            "core/meson.build": "# " + "w" * 100 + "\nx = '" + "y" * 100 + "'\n",
            "tools/fuzz": "#!/bin/sh\n# " + "w" * 100 + "\n",
            "Makefile": "# " + "w" * 100 + "\n",
            "src/flagstone/binding/b.pxi": "cdef int z\n" * 701,
        },
    )
    assert said.splitlines() == [
        "Makefile: more than 100 columns in lines 1",
        "core/meson.build: more than 100 columns in lines 1",
        "core/refs/a.c: more than 100 columns in lines 1, 2, 4",
        "core/refs/b.c: 601 lines, more than 600: it is more than one thing",
        "models/a.pml: more than 100 columns in lines 1",
        "src/flagstone/_core.pyx: more than 100 columns in lines 1",
        "src/flagstone/a.py: 702 lines, more than 700: it is more than one thing",
        "src/flagstone/a.py: more than 100 columns in lines 702",
        "src/flagstone/binding/b.pxi: 701 lines, more than 700: it is more than one thing",
        "tools/fuzz: more than 100 columns in lines 2",
    ]


def test_words(found):
    said = found(
        "words",
        {
            "docs/design/words.md": "# Words\n| settle | this is no refusal | |\n\n## Refused\n\n"
            "| word | say instead | may stay |\n|---|---|---|\n"
            "| take | reserve | `fst_take`, `fst_gone_take` |\n| took | the same | |\n",
            "core/refs/a.c": "int fst_take, fst_pages_take, intake;\n/* take */ int took, settle;\n"
            "int TAKE_ALL = fst_pages_take;\n",
        },
    )
    assert said.splitlines() == [
        "core/refs/a.c:1: fst_pages_take: 'take' is refused; say reserve (docs/design/words.md)",
        "core/refs/a.c:2: took: 'took' is refused; say the same (docs/design/words.md)",
        "core/refs/a.c:3: TAKE_ALL: 'take' is refused; say reserve (docs/design/words.md)",
        "docs/design/words.md: there is no fst_gone_take any more that may have 'take'",
    ]


def test_each_check_has_a_test():
    known = {name.removeprefix("test_").removeprefix("Test").lower() for name in globals()}
    assert known >= set(CHECKS)


# One change to the core each, and what is said of it.
UNORDERED = {
    "a fence that has gone": (
        "core/alloc/lists.c",
        ("fst_full_fence(); /* PAIR(let-go) */", ""),
        "core/alloc/lists.c: fst_lists_unown does not have `fst_full_fence()`, or not in this",
    ),
    "a weaker load": (
        "core/refs/reftable.h",
        ("fst_load_acquire(&a->counts", "fst_load_relaxed(&a->counts"),
        "fst_refs_only_owner does not have `fst_load_acquire(&a->counts[entry])`",
    ),
    "a fence that comes later": (
        "core/reclaim/batch.c",
        (
            "    fst_full_fence();\n    if (fst_load_relaxed(&sb->waiters))",
            "    if (fst_load_relaxed(&sb->waiters))",
        ),
        "core/reclaim/batch.c: fst_batch_run does not have `fst_full_fence()`, or not in this",
    ),
    "a label without a test": (
        "core/refs/claim.c",
        ("#include", "/* PAIR(new) */\n#include"),
        "PAIR(new) has no litmus test in models/litmus",
    ),
    "a label in one more file": (
        "core/refs/claim.c",
        ("#include", "/* PAIR(let-go) */\n#include"),
        "models/litmus/let-go.txt: core/refs/claim.c has PAIR(let-go), and no test names it",
    ),
}


@pytest.mark.parametrize("change", UNORDERED)
def test_litmus(tmp_path, change):
    """Lint compares the litmus tests with the core, line by line."""
    path, (old, new), said = UNORDERED[change]
    for folder in ("core", "src/flagstone/binding", "models/litmus"):
        shutil.copytree(litmus.TOP / folder, tmp_path / folder)
    assert list(litmus.drift(tmp_path)) == []
    text = (tmp_path / path).read_text()
    assert old in text
    (tmp_path / path).write_text(text.replace(old, new, 1))
    assert said in "\n".join(litmus.drift(tmp_path))
