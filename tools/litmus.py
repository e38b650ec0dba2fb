"""Litmus tests of the orderings that the core relies on: python -m tools.litmus [LABEL ...].

models/litmus has a file for each PAIR label of the core; its README says how one is written. A test
names lines of the core, so that nobody can change an ordering there and leave the test behind:
`drift` looks for each line in its function, in order, and lint asks it. What an operation of
core/platform/atomics.h means is read from that file. Run as a program, each test becomes a C11
litmus test that herd7 checks with the model RC11, and one more for each line that carries the test,
weakened: that one has to fail.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FOLDER = Path("models", "litmus")
ATOMICS = Path("core", "platform", "atomics.h")
LABEL = re.compile(r"PAIR\(([a-z-]+)\)")
EFFECT = re.compile(
    r"(\*{0,2}) ?(?:(?P<register>\w+) = (?P<from>[a-z]\w*)(?: <- (?P<swapped>\d+))?"
    r"|(?P<to>\w+) = (?P<value>\d+)|barrier (?P<of>\w+))?"
)
WEAKER = {
    "load": ["SEQ_CST", "ACQUIRE", "RELAXED"],
    "store": ["SEQ_CST", "RELEASE", "RELAXED"],
    "swap": ["SEQ_CST", "ACQ_REL", "RELAXED"],
    "fence": ["SEQ_CST", "ACQ_REL", ""],
}
KINDS = {
    "load": "load",
    "store": "store",
    "exchange": "swap",
    "compare_exchange": "swap",
    "thread_fence": "fence",
}


@dataclass(frozen=True)
class Access:
    """One atomic operation, and its order; a fence without an order is none."""

    kind: str
    order: str

    def weaker(self) -> "Access":
        """The next weaker one."""
        if self.kind == "fence" and self.order in ("ACQUIRE", "RELEASE"):
            return Access("fence", "")
        orders = WEAKER[self.kind]
        at = (
            1
            if self.kind == "swap" and self.order in ("ACQUIRE", "RELEASE")
            else orders.index(self.order)
        )
        return Access(self.kind, orders[at + 1])


@dataclass(frozen=True)
class Line:
    """One line of a thread: where it stands, its text, and what it does here."""

    file: str
    function: str
    code: str
    effect: str
    accesses: tuple[Access, ...] = ()

    @property
    def stars(self) -> int:
        """How much weaker it has to be for the test to fail; 0: the test does not need it."""
        return len(self.effect) - len(self.effect.lstrip("*"))

    def weaker(self) -> "Line":
        """With the last of its accesses that can be weaker made so."""
        accesses = list(self.accesses)
        for _ in range(self.stars):
            if accesses[-1].order == "":
                accesses.pop()
            accesses[-1] = accesses[-1].weaker()
        return replace(self, accesses=tuple(accesses))


@dataclass
class Test:
    """What one file of models/litmus asks, once."""

    name: str
    start: dict[str, int] = field(default_factory=dict)
    threads: dict[str, list[Line]] = field(default_factory=dict)
    same: list[tuple[str, list[Line]]] = field(default_factory=list)
    never: str = ""


def meanings(text: str) -> dict[str, tuple[Access, ...]]:
    """What the operations of atomics.h are, where the processor is not x86-64."""
    text = re.sub(
        r"#if defined\(__x86_64__\)\n(?:(?!#).*\n)*#else\n((?:(?!#).*\n)*)#endif\n", r"\1", text
    )
    text = text.replace("\\\n", "")
    bodies = dict(re.findall(r"^#define (fst_\w+)\(.*?\)(.*)$", text, re.MULTILINE))
    bodies |= dict(
        re.findall(
            r"^static inline \w+ (fst_\w+)\(.*?\)\n\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL
        )
    )
    found: dict[str, tuple[Access, ...]] = {}
    for name, body in bodies.items():
        accesses: list[Access] = []
        for operation, order, called in re.findall(
            r"__atomic_(\w+)\(.*?__ATOMIC_(\w+)|(fst_\w+)\(", body
        ):
            kind = operation.removesuffix("_n")
            if called:
                accesses += found.get(called, ())
            elif kind != "signal_fence":
                accesses.append(Access(KINDS.get(kind, "swap"), order))
        if accesses:
            found[name] = tuple(accesses)
    return found


def tests_in(path: Path, known: dict[str, tuple[Access, ...]]) -> list[Test]:
    """The tests of one file; ValueError where it is not understood."""
    tests: list[Test] = []
    lines: list[Line] = []
    place = ("", "")
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        word, _, rest = text.partition(" ")
        if text.startswith("    "):
            code, _, effect = (text.strip() + " ").rpartition(" : ")
            effect = effect.strip()
            name = next((n for n in re.findall(r"\bfst_\w+", code) if n in known), None)
            if not code or not EFFECT.fullmatch(effect):
                raise ValueError(f"{path.name}:{number}: not understood: {text.strip()}")
            kind = "store" if re.match(r"\*{0,2} ?\w+ = \d", effect) else "load"
            plain = (Access(kind, "RELAXED"),)
            lines.append(
                Line(*place, " ".join(code.split()), effect, known[name] if name else plain)
            )
        elif word == "test":
            tests.append(Test(rest))
        elif word == "start":
            tests[-1].start = {
                name: int(value) for name, value in (pair.split("=") for pair in rest.split())
            }
        elif word == "thread":
            lines = tests[-1].threads[rest] = []
        elif word == "same":
            lines = []
            tests[-1].same.append((rest, lines))
        elif word == "in":
            file, function = rest.split()
            place = (file, function)
        elif word == "never":
            tests[-1].never = rest
    return tests


def function_text(text: str, name: str) -> str:
    """The definition of a function, without its mutants, in one line; empty: there is none."""
    for found in re.finditer(
        rf"^(?:[a-z].*\b)?{name}\([^;{{]*\n\{{\n.*?^\}}", text, re.MULTILINE | re.DOTALL
    ):
        body = re.sub(
            r"#ifdef FST_MUTANT\w*\n.*?(?:#else\n|#endif\n)", "", found[0], flags=re.DOTALL
        )
        return " ".join(body.split())
    return ""


def moved(top: Path, lines: list[Line]) -> Iterator[str]:
    """What these lines say of the core that is not so."""
    at: dict[tuple[str, str], int] = {}
    last = ("", "")
    for line in lines:
        path = top / line.file
        text = (
            function_text(path.read_text(encoding="utf-8"), line.function) if path.exists() else ""
        )
        place = (line.file, line.function)
        found = text.find(line.code, at.get(place, 0))
        if found < 0 and place != last:
            found = text.find(line.code)  # called once more
        last = place
        if found < 0:
            yield f"{line.file}: {line.function} does not have `{line.code}`, or not in this order"
        else:
            at[place] = found + len(line.code)


def orders(lines: list[Line]) -> list[Access]:
    """What of the lines is more than relaxed."""
    return [access for line in lines for access in line.accesses if access.order != "RELAXED"]


def drift(top: Path = TOP) -> Iterator[str]:
    """Where the tests and the core say different things."""
    atomics = top / ATOMICS
    if not atomics.exists():
        return
    known = meanings(atomics.read_text(encoding="utf-8"))
    labels: dict[str, set[str]] = {}
    for path in sorted((top / "core").rglob("*.[ch]")):
        if path != atomics:
            for label in LABEL.findall(path.read_text(encoding="utf-8")):
                labels.setdefault(label, set()).add(path.relative_to(top).as_posix())
    files = {path.stem: path for path in (top / FOLDER).glob("*.txt")}
    for label in sorted(labels.keys() - files.keys()):
        yield f"PAIR({label}) has no litmus test in models/litmus"
    for label, path in sorted(files.items()):
        if label not in labels:
            yield f"models/litmus/{path.name}: no PAIR({label}) in the core"
            continue
        named = set(
            re.findall(r"^(?:in|told in) (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        )
        for file in sorted(labels[label] - named):
            yield f"models/litmus/{path.name}: {file} has PAIR({label}), and no test names it"
        for test in tests_in(path, known):
            for lines in test.threads.values():
                yield from moved(top, lines)
            for thread, lines in test.same:
                yield from moved(top, lines)
                if orders(lines) != orders(test.threads[thread]):
                    yield f"{lines[0].function} has not the orders of {thread} in {test.name}"


def statement(access: Access, effect: re.Match[str], used: set[str]) -> str:
    """One access in herd7's C."""
    order = f"memory_order_{access.order.lower()}"
    to, value, source, swapped = (effect[name] for name in ("to", "value", "from", "swapped"))
    if access.kind == "fence":
        return f"atomic_thread_fence({order});" if access.order else ""
    if to and access.kind == "swap":
        register = f"ignored{len(used)}"
        used.add(register)
        return f"int {register} = atomic_exchange_explicit({to}, {value}, {order});"
    if to:
        return f"atomic_store_explicit({to}, {value}, {order});"
    if access.kind == "swap":
        return f"int {effect['register']} = atomic_exchange_explicit({source}, {swapped}, {order});"
    return f"int {effect['register']} = atomic_load_explicit({source}, {order});"


def herd_tests(test: Test) -> Iterator[str]:
    """The test in herd7's C: once, or for each place where the barrier may interrupt a thread."""
    barriers = {
        effect["of"]
        for lines in test.threads.values()
        for line in lines
        if (effect := EFFECT.fullmatch(line.effect)) and effect["of"]
    }
    places = [(of, at) for of in barriers for at in range(len(test.threads[of]) + 1)] or [("", 0)]
    names = list(test.threads)
    never = test.never
    for number, name in enumerate(names):
        never = re.sub(rf"\b{name}:", f"{number}:", never)
    for interrupted, place in places:
        variables = dict(test.start)
        condition = never
        bodies = []
        for name, lines in test.threads.items():
            body, used = [], {"interrupted"}
            for at, line in enumerate([*lines, None]):
                if name == interrupted and at == place:
                    body += [
                        "int asked = atomic_load_explicit(ask, memory_order_acquire);",
                        "atomic_thread_fence(memory_order_seq_cst);",
                    ]
                    body += ["atomic_store_explicit(passed, 1, memory_order_release);"]
                    condition += f" {names.index(name)}:asked=1"
                if line is None:
                    break
                effect = EFFECT.fullmatch(line.effect)
                assert effect
                if effect["of"] and line.accesses:
                    body += [
                        "atomic_thread_fence(memory_order_seq_cst);",
                        "atomic_store_explicit(ask, 1, memory_order_release);",
                    ]
                    body += [
                        "int answer = atomic_load_explicit(passed, memory_order_acquire);",
                        "atomic_thread_fence(memory_order_seq_cst);",
                    ]
                    condition += f" {names.index(name)}:answer=1"
                elif not effect["of"]:
                    body += [statement(access, effect, used) for access in line.accesses]
                variables |= {v: variables.get(v, 0) for v in (effect["from"], effect["to"]) if v}
            bodies.append("\n  ".join(s for s in body if s))
        if interrupted:
            variables |= {"ask": 0, "passed": 0}
            if "answer" not in condition:  # a mutant without the barrier
                condition = re.sub(r" \d:asked=1", "", condition)
        parameters = ", ".join(f"atomic_int *{v}" for v in variables)
        text = (
            f"C {test.name}\n{{ "
            + " ".join(f"{v}={value};" for v, value in variables.items())
            + " }\n"
        )
        for number, statements in enumerate(bodies):
            text += f"P{number}({parameters}) {{\n  {statements}\n}}\n"
        terms = " /\\ ".join(condition.split())
        yield f"{text}exists ({terms})\n"


def possible(test: Test, herd: str) -> bool:
    """Whether what must never be can be."""
    seen = False
    for text in herd_tests(test):
        with tempfile.NamedTemporaryFile("w", suffix=".litmus") as file:
            file.write(text)
            file.flush()
            done = subprocess.run(
                [herd, "-model", "rc11.cat", file.name], capture_output=True, text=True, check=False
            )
        found = re.search(
            r"^Observation \S+ (Never|Sometimes|Always) (\d+) (\d+)", done.stdout, re.MULTILINE
        )
        if not found or found[2] == found[3] == "0":
            raise RuntimeError(f"{test.name}: herd7 says\n{done.stdout}{done.stderr}\nof\n{text}")
        seen |= found[1] != "Never"
    return seen


def mutants(test: Test) -> Iterator[tuple[str, Test]]:
    """The test with one of its lines weakened."""
    for name, lines in test.threads.items():
        for at, line in enumerate(lines):
            if line.stars:
                weak = replace(line, accesses=()) if "barrier" in line.effect else line.weaker()
                yield (
                    f"{name}: {line.code}",
                    replace(
                        test, threads={**test.threads, name: [*lines[:at], weak, *lines[at + 1 :]]}
                    ),
                )


def run(herd: str, labels: list[str]) -> int:
    """Check the tests of these labels; how many came out otherwise."""
    known = meanings((TOP / ATOMICS).read_text(encoding="utf-8"))
    unexpected = total = 0
    for path in sorted((TOP / FOLDER).glob("*.txt")):
        if labels and path.stem not in labels:
            continue
        for test in tests_in(path, known):
            bad = ["the test itself"] if possible(test, herd) else []
            weakened = list(mutants(test))
            bad += [
                f"weaker, and nobody notices: {what}"
                for what, mutant in weakened
                if not possible(mutant, herd)
            ]
            unexpected += len(bad)
            total += 1 + len(weakened)
            print(
                f"{'FAILED' if bad else 'ok    '} {test.name:<24} {len(weakened)} mutants",
                *bad,
                sep="\n       " if bad else " ",
            )
    print(f"litmus tests: {total - unexpected} as expected, {unexpected} not")
    return unexpected


def main() -> int:
    """Exit status 1 when a test came out otherwise."""
    found = subprocess.run([TOP / "tools" / "herd"], capture_output=True, text=True, check=False)
    if found.returncode:
        print(found.stdout.strip())
        return 0
    for sentence in drift():
        print(sentence)
        return 1
    return int(run(found.stdout.strip(), sys.argv[1:]) > 0)


if __name__ == "__main__":
    sys.exit(main())
