"""`flagstone metrics` and its collector: the numbers are the snapshot's, the names Prometheus's own
tools accept, and a real Prometheus scrapes them.
"""

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import flagstone
from flagstone.testing import wait_until
from tests.conftest import missing

prometheus_client = pytest.importorskip("prometheus_client")

from flagstone.metrics import OTHER, Collector  # noqa: E402

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def samples(collector):
    """{(name, label values without the arena's): value}."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(collector)
    found = {}
    for family in registry.collect():
        for one in family.samples:
            rest = tuple(value for key, value in one.labels.items() if key != "arena")
            key = (one.name.removeprefix("flagstone_"), *rest)
            assert key not in found
            found[key] = one.value
    return found


def again(collector):
    """The next scrape, however soon."""
    collector._next = 0.0
    return samples(collector)


def tool(name):
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed (Debian: prometheus)")
    return found


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "flagstone", "metrics", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 0
    return out


def run(*arguments):
    process = started(*arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_numbers_are_the_snapshot_s(arena):
    cache = arena.cache("frame", size=1000)
    with arena.group("camera", limit="1MiB") as camera:
        blocks = [cache.alloc(group=camera) for _ in range(10)]
        with pytest.raises(flagstone.GroupLimitExceeded):
            arena.alloc("2MiB", group=camera)
        store = arena.store("models")
        store["a"] = b"x" * 5000
        channel = arena.channel("frames", capacity=8)
        channel.put(b"small")
        topic = arena.topic("preview", capacity=4)
        with topic.subscribe(slow="drop") as subscription, arena.lock("exporter"):
            for _ in range(6):
                topic.publish(b"m")
            subscription.get(wait=0)  # which is when it learns what it lost
            got = samples(Collector(arena))
            snapshot = arena.snapshot()
            (sub,) = snapshot.topics[0].subscribers
            assert (sub.lag, sub.lost) == (3, 2)
        (group,) = [one for one in snapshot.groups if one.name == "camera"]
        (me,) = snapshot.processes
        assert got[("up",)] == 1
        assert got[("capacity_bytes",)] == snapshot.capacity
        assert got[("used_bytes",)] == snapshot.used
        assert got[("group_usage_bytes", "camera")] == group.usage
        assert got[("group_usage_bytes", "(root)")] == snapshot.groups[0].usage
        assert got[("group_limit_bytes", "camera")] == 1 << 20
        assert ("group_limit_bytes", "(root)") not in got
        assert got[("group_limit_hits_total", "camera")] == group.events.limit_hits > 0
        assert got[("group_failed_allocations_total", "camera")] == group.events.failed > 0
        assert got[("cache_allocated_objects", "frame")] == 10
        assert got[("held_bytes", me.command)] == me.bytes >= 10_000
        assert got[("processes", "alive")] == 1
        assert got[("store_keys", "models")] == 1
        assert got[("store_bytes", "models")] == 5000
        assert got[("channel_waiting_messages", "frames")] == 1
        assert got[("channel_capacity_messages", "frames")] == 8
        assert got[("topic_subscribers", "preview")] == 1
        assert got[("topic_lag_messages", "preview")] == 3
        assert got[("topic_lost_messages_total", "preview")] == 2
        assert got[("lock_owned", "exporter")] == 1
        assert got[("stalled_seconds",)] == 0
        del blocks
        store.destroy()


def test_cardinality_is_bounded(arena):
    cache = arena.cache("c", size=4096, merge=False)
    collector = Collector(arena, most=5)
    groups = [arena.group(f"g{number}", limit="1MiB") for number in range(50)]
    blocks = [cache.alloc(group=group) for group in groups for _ in range(2)]
    got = samples(collector)
    labels = {key[1] for key in got if key[0] == "group_usage_bytes"}
    assert len(labels) == 6
    assert labels > {OTHER, "(root)"}
    usages = {group.name: group.usage for group in groups}
    total = sum(got[("group_usage_bytes", label)] for label in labels - {"(root)"})
    assert total == sum(usages.values())
    # Who has a label keeps it, whoever is larger meanwhile.
    (late,) = [arena.group("late")]
    blocks += [cache.alloc(group=late) for _ in range(100)]
    assert {key[1] for key in again(collector) if key[0] == "group_usage_bytes"} == labels
    del blocks, got
    for group in [*groups, late]:
        group.destroy().wait()


def test_counters_of_what_is_gone_are_bounded(arena):
    """A name for each job: the counters of the last ones stay, and those before are summed, without
    a step back of the sum.
    """
    collector = Collector(arena, most=5)
    hits, others = 0, []
    for number in range(20):
        with arena.group(f"job-{number}", limit="64KiB") as job:
            with pytest.raises(flagstone.GroupLimitExceeded):
                arena.alloc("1MiB", group=job)
            got = again(collector)
            hits += job.events.limit_hits
        counted = {
            key[1]: value for key, value in got.items() if key[0] == "group_limit_hits_total"
        }
        assert f"job-{number}" in counted
        assert len(counted) <= 6
        assert sum(counted.values()) == hits
        others.append(counted.get(OTHER, 0))
    assert others == sorted(others)
    assert others[-1] > 0


def test_nested_groups_of_one_label_count_once(arena):
    with arena.group("outer") as outer:
        with arena.group("inner", parent=outer) as inner:
            block = arena.alloc(100_000, group=inner)
            got = samples(Collector(arena, most=1))
            assert got[("group_usage_bytes", OTHER)] == outer.usage == inner.usage
            del block


def test_counters_only_grow(arena):
    collector = Collector(arena)
    totals, hits = [], 0
    for _ in range(3):
        with arena.group("job", limit="64KiB") as job:
            with pytest.raises(flagstone.GroupLimitExceeded):
                arena.alloc("1MiB", group=job)
            hits += job.events.limit_hits  # a wait comes to the limit as often as it tries
            totals.append(again(collector)[("group_limit_hits_total", "job")])
        totals.append(again(collector)[("group_limit_hits_total", "job")])
    assert totals == sorted(totals)
    assert totals[-1] == hits


def test_an_arena_that_is_gone_is_down(arena_name):
    collector = Collector(arena_name)
    assert samples(collector) == {("up",): 0}
    with flagstone.open(arena_name, capacity="4MiB"):
        assert again(collector)[("up",)] == 1
    assert again(collector) == {("up",): 0}
    collector.close()


def test_nothing_lives_on_because_it_is_watched(arena_name):
    path = Path(f"/dev/shm/flagstone.{arena_name}")
    program = "import flagstone, sys; a = flagstone.open(sys.argv[1]); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, arena_name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    collector, other = Collector(arena_name), Collector(arena_name)
    assert samples(collector)[("processes", "alive")] == 1
    assert samples(other)[("up",)] == 1
    process.communicate(b"\n")
    again(collector)
    again(other)
    assert again(collector) == again(other) == {("up",): 0}
    assert not path.exists()


def test_a_scrape_that_comes_too_soon_gets_the_last_numbers(arena):
    collector = Collector(arena)
    before = samples(collector)
    block = arena.alloc(1 << 20)
    collector._next = time.monotonic() + 1000
    assert samples(collector) == before
    assert again(collector)[("used_bytes",)] > before[("used_bytes",)]
    del block


def test_wrong_use(arena):
    with pytest.raises(ValueError, match="at least 1"):
        Collector(arena, most=0)
    status, _, err = run("--every", 3)
    assert status == 2
    assert "--textfile" in err


def test_textfile(arena, tmp_path):
    path = tmp_path / "flagstone.prom"
    status, out, err = run(arena.name, "--textfile", path)
    assert (status, out, err) == (0, "", "")
    assert f'flagstone_up{{arena="{arena.name}"}} 1.0' in path.read_text()
    assert os.listdir(tmp_path) == ["flagstone.prom"]
    path.unlink()
    process = started(arena.name, "--textfile", path, "--every", 0.05)
    wait_until(path.exists, 30)
    first = path.stat().st_ino
    wait_until(lambda: path.exists() and path.stat().st_ino != first, 30)
    assert ended(process) == ""


def test_json(arena):
    status, out, err = run(arena.name, "--json")
    assert (status, err) == (0, "")
    found = {one["name"]: one for one in json.loads(out)["samples"]}
    assert found["flagstone_capacity_bytes"]["value"] == arena.capacity
    assert found["flagstone_capacity_bytes"]["labels"] == {"arena": arena.name}


@pytest.fixture
def endpoint(arena):
    process = started(arena.name, "--port", 0)
    line = process.stdout.readline()
    yield re.fullmatch(r"serving (http://127.0.0.1:\d+/metrics)\n", line)[1]
    assert ended(process) == ""


def busy(arena):
    """Something of each kind; what has to be kept."""
    group = arena.group("camera-7", limit="8MiB")
    block = arena.put(b"x" * 10_000, group=group)
    channel = arena.channel("frames")
    channel.put(b"m")
    topic = arena.topic("preview")
    store = arena.store("models")
    store["k"] = b"v"
    return group, block, channel, topic, topic.subscribe(slow="drop"), store, arena.lock("exporter")


def test_promtool_accepts_them(arena, endpoint):
    promtool = tool("promtool")
    kept = busy(arena)
    with urllib.request.urlopen(endpoint) as answer:
        text = answer.read()
    ran = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert b'flagstone_group_limit_bytes{arena="' in text
    kept[4].close()
    kept[5].destroy()
    del kept


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_prometheus_scrapes_them(arena, endpoint, tmp_path):
    prometheus = tool("prometheus")
    kept = busy(arena)
    port = free_port()
    config = tmp_path / "prometheus.yml"
    target = endpoint.removeprefix("http://").removesuffix("/metrics")
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: flagstone\n"
        f"    static_configs: [{{targets: ['{target}']}}]\n"
    )
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [
                prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )

    def answers(query):
        url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(query)}"
        try:
            with urllib.request.urlopen(url) as answer:
                found = json.load(answer)
        except OSError:
            assert server.poll() is None, (tmp_path / "log").read_text()
            return []
        assert found["status"] == "success"
        return found["data"]["result"]

    try:
        usage = f'flagstone_group_usage_bytes{{arena="{arena.name}",group="camera-7"}}'
        wait_until(lambda: answers(usage), 60, "a scrape")
        assert float(answers(usage)[0]["value"][1]) == kept[0].usage
        # What the dashboard asks is PromQL for Prometheus itself, and has an answer.
        for query, legend in dashboard():
            query = query.replace("$__rate_interval", "1m").replace("$arena", ".*")
            query = query.removesuffix(" > 0")
            wait_until(functools.partial(answers, query), 60, query)
            labels = answers(query)[0]["metric"].keys()
            assert set(re.findall(r"{{(\w+)}}", legend)) <= labels, query
    finally:
        server.terminate()
        server.wait()
    kept[4].close()
    kept[5].destroy()
    del kept


def dashboard():
    """What each panel asks, and how it calls what it gets."""
    panels = json.loads((GUIDES / "grafana.json").read_text())["panels"]
    return [(one["expr"], one["legendFormat"]) for panel in panels for one in panel["targets"]]


def test_the_dashboard_asks_for_what_is_there():
    """Names of metrics, and the labels that are matched, summed by and shown, of every query and
    of the choice of arenas.
    """
    known = {}
    for family in Collector().describe():
        total = "_total" if family.type == "counter" else ""
        known[family.name + total] = set(family._labelnames)
    (choice,) = [
        one["query"]["query"]
        for one in json.loads((GUIDES / "grafana.json").read_text())["templating"]["list"]
        if one["type"] == "query"
    ]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", choice).groups()
    assert label in known[name]
    for query, legend in dashboard():
        names = re.findall(r"flagstone_\w+", query)
        assert names, query
        labels = set(re.findall(r"{{(\w+)}}", legend))
        labels |= set(re.findall(r'(\w+)=~?"', query))
        for by in re.findall(r"by \(([^)]*)\)", query):
            labels |= {one.strip() for one in by.split(",")}
        for name in names:
            assert name in known, query
            assert labels <= known[name], query


def test_the_guide_lists_all():
    text = (GUIDES / "metrics.md").read_text()
    for family in Collector().describe():
        assert f"`{family.name}" in text, family.name
