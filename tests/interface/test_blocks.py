"""Blocks of code in pages that are neither Python (`test_docs`) nor commands (`test_commands`).

What each is for can read it, and what it names is there.
"""

import dataclasses
import re
import shutil
import subprocess

import pytest
import yaml

from flagstone.sizes import parse_size
from tests.conftest import missing
from tests.interface.test_docs import ALL_PAGES, ROOT
from tools.pages import blocks


def of(language):
    """A parameter for each block of this language."""
    return [
        pytest.param(block.text, id=f"{page.relative_to(ROOT)}:{block.line}")
        for page in ALL_PAGES
        for block in blocks(page.read_text())
        if block.language == language
    ]


def test_every_block_is_of_a_kind_that_a_test_knows():
    """A new kind comes with its test. `None` is an indented block."""
    known = {None, "", "python", "text", "yaml"}
    for page in ALL_PAGES:
        text = page.read_text()
        found = list(blocks(text))
        assert {one.language for one in found} <= known, page
        assert 2 * sum(one.language is not None for one in found) == text.count("```"), page


@pytest.mark.parametrize("text", of(""))
def test_a_block_without_a_language_is_a_terminal(text):
    """It begins with a command. What is none is `text`."""
    assert text.startswith("$ ")


def test_an_indented_block_is_commands():
    """`test_commands` takes it word by word: what is no command has a fence, with its language."""
    for page in ALL_PAGES:
        for block in blocks(page.read_text()):
            if block.language is None:
                for line in filter(None, block.text.splitlines()):
                    assert re.match(r"(?:[A-Z_]+=\S* )*[\w./-]+(?: |$)", line), f"{page}: {line}"


def test_the_kinds_of_yaml():
    """Each of them is looked at below."""
    kinds = [kind(text) for (text,) in (one.values for one in of("yaml"))]
    assert sorted(set(kinds)) == ["dask", "kubernetes", "prometheus"]


def kind(text):
    keys = set(yaml.safe_load(text))
    known = {"apiVersion": "kubernetes", "groups": "prometheus", "flagstone": "dask"}
    return next((name for key, name in known.items() if key in keys), f"unknown: {keys}")


def only(wanted):
    return pytest.mark.parametrize(
        "text", [one for one in of("yaml") if kind(one.values[0]) == wanted]
    )


MEMORY = r"\d+(?:Mi|Gi)"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": r"[a-z]([a-z0-9-]*[a-z0-9])?"},
    "spec": {
        "securityContext": {"runAsUser": int},
        "containers": [
            {
                "name": r"[a-z]([a-z0-9-]*[a-z0-9])?",
                "image": r"\S+",
                "command": [r"\S+"],
                "resources": {"limits": {"memory": MEMORY}},
                "volumeMounts": [{"name": r"[a-z]+", "mountPath": r"/\S+"}],
            }
        ],
        "volumes": [
            {"name": r"[a-z]+", "emptyDir": {"medium": "Memory", "sizeLimit": MEMORY}},
        ],
    },
}


def fits(found, wanted, where="manifest"):
    """Every key is one that Kubernetes has in this place, and its value is of the right kind."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        for key, value in found.items():
            assert key in wanted, f"{where}: {key}"
            fits(value, wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), where
        assert found, where
        for one in found:
            fits(one, wanted[0], where)
    elif wanted is int:
        assert type(found) is int, where
    else:
        assert isinstance(found, str), where
        assert re.fullmatch(wanted, found), f"{where}: {found}"


@only("kubernetes")
def test_a_manifest(text):
    """A pod whose containers share a tmpfs that is smaller than what each of them may take."""
    pod = yaml.safe_load(text)
    fits(pod, POD)
    assert set(pod) == set(POD)
    spec = pod["spec"]
    assert len(spec["containers"]) > 1
    volumes = {one["name"]: one["emptyDir"] for one in spec["volumes"]}
    mounted = set()
    for container in spec["containers"]:
        assert {"name", "image", "volumeMounts"} <= set(container)
        limit = parse_size(container["resources"]["limits"]["memory"] + "B", "limit")
        for mount in container["volumeMounts"]:
            mounted.add((mount["name"], mount["mountPath"]))
            volume = volumes[mount["name"]]
            assert volume["medium"] == "Memory"
            assert parse_size(volume["sizeLimit"] + "B", "size") < limit
    assert {name for name, _ in mounted} == set(volumes)
    assert len(mounted) == len(volumes)  # each at the same place everywhere


@only("prometheus")
def test_rules_for_alerts(text, tmp_path):
    """Prometheus's own tool takes them. They ask for what there is."""
    from flagstone.metrics import Collector

    path = tmp_path / "rules.yml"
    path.write_text(text)
    promtool = shutil.which("promtool") or missing("no promtool is installed")
    ran = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    known = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Collector().describe()
    }
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            assert set(re.findall(r"flagstone_\w+", rule["expr"])) <= known, rule


@only("dask")
def test_a_configuration_of_dask(text):
    """Its keys are those that are read, all of them, and its values can be."""
    import dask.config

    from flagstone.dask.settings import Settings, read

    config = yaml.safe_load(text)
    assert set(config) == {"flagstone"}
    assert set(config["flagstone"]) == {one.name for one in dataclasses.fields(Settings)}
    with dask.config.set(config):
        settings = read()
    for name, value in config["flagstone"].items():
        read_as = getattr(settings, name)
        assert read_as == value or read_as == parse_size(value, name)


def test_what_pages_say_of_dask_in_the_environment():
    """`DASK_FLAGSTONE__...`, in any page."""
    from flagstone.dask.settings import Settings

    known = {one.name.upper() for one in dataclasses.fields(Settings)}
    said = {
        name
        for page in ALL_PAGES
        for name in re.findall(r"DASK_FLAGSTONE__(\w+)", page.read_text())
    }
    assert said
    assert said <= known
