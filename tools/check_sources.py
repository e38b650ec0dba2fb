"""Check that every source file is listed in its meson.build, so that no wheel lacks a module."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def unlisted(folder: str, patterns: tuple[str, ...], *, strip: str = "") -> list[str]:
    """Return the files under the folder whose names its meson.build does not quote."""
    base = ROOT / folder
    listing = (base / "meson.build").read_text()
    found = []
    for pattern in patterns:
        for path in sorted(base.rglob(pattern)):
            name = str(path.relative_to(base))
            if strip:
                name = path.stem.removeprefix(strip)
            if f"'{name}'" not in listing:
                found.append(f"{path.relative_to(ROOT)}: not listed in {folder}/meson.build")
    return found


def main() -> int:
    """Check the four lists, print what is missing."""
    messages = unlisted("core", ("*.c",))
    messages += unlisted("src/flagstone", ("*.py", "*.pyi", "py.typed"))
    messages += unlisted("tests/core", ("test_*.c",), strip="test_")
    messages += unlisted("tests/fuzz", ("fuzz_*.c",), strip="fuzz_")
    print("\n".join(messages) or "source lists: fine")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
