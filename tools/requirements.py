"""Print what pip has to install before the package is built: `requirements.py EXTRA...`.

The build requirements, the run-time dependencies and the named extras of pyproject.toml, one a
line. The package itself is built without isolation, so that a rebuild takes seconds.
"""

import re
import sys
import tomllib
from pathlib import Path


def expand(names: list[str], extras: dict[str, list[str]]) -> list[str]:
    """Return the requirements of these extras, with references to other extras resolved."""
    found = []
    for name in names:
        for requirement in extras[name]:
            own = re.fullmatch(r"flagstone\[(.*)\]", requirement)
            found += expand(own[1].split(","), extras) if own else [requirement]
    return found


def main() -> None:
    """Read pyproject.toml beside this folder, print the requirements."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    data = tomllib.loads(text)
    project = data["project"]
    wanted = data["build-system"]["requires"] + project["dependencies"]
    wanted += expand(sys.argv[1:], project["optional-dependencies"])
    print("\n".join(dict.fromkeys(wanted)))


if __name__ == "__main__":
    main()
