"""`flagstone metrics`: numbers of arenas for Prometheus."""

from __future__ import annotations

import argparse
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from flagstone.cli.screen import Screen
from flagstone.cli.usage import UsageError, arena_name, count, existing_folder, seconds
from flagstone.names import FOLDER

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

NAME = "metrics"
HELP = "serve or write the numbers of arenas for Prometheus"
DESCRIPTION = """\
Serve the numbers of arenas over HTTP for Prometheus to scrape, or write them to a file for the
textfile collector of its node exporter. An arena is looked at when somebody asks, by a read-only
attachment that ends when nobody else has the arena.

Groups, caches, commands and whatever else there may be any number of have a label each up to
--most; the rest is summed. Needs `pip install "flagstone[metrics]"`."""
EXAMPLE = """\
  $ flagstone metrics --port 9464
  serving http://127.0.0.1:9464/metrics
  $ flagstone metrics video --textfile /var/lib/node_exporter/flagstone.prom --every 15"""

PORT = 9464


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "arenas",
        metavar="ARENA",
        nargs="*",
        type=arena_name,
        help="which ones (default: all of this user that there are, at each scrape)",
    )
    parser.add_argument(
        "--folder", default=FOLDER, help=f"where to look for all of them (default: {FOLDER})"
    )
    parser.add_argument(
        "--most",
        type=count(1, 100_000),
        default=100,
        metavar="N",
        help="labels of one kind for each arena (default: 100)",
    )
    parser.add_argument(
        "--port", type=count(0, 65535), default=PORT, help=f"0: any free one (default: {PORT})"
    )
    parser.add_argument(
        "--address", default="127.0.0.1", help="where to listen (default: 127.0.0.1)"
    )
    parser.add_argument("--textfile", metavar="FILE", help="write to this file instead")
    parser.add_argument(
        "--every",
        type=seconds,
        metavar="SECONDS",
        help="with --textfile: write again so often, until it is ended (default: once)",
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Serve, write or print the numbers; the exit status."""
    try:
        from flagstone.metrics import Collector
    except ImportError as error:
        raise UsageError(str(error)) from None
    from prometheus_client import CollectorRegistry

    if arguments.every is not None and not arguments.textfile:
        raise UsageError("--every goes with --textfile; an endpoint looks when it is asked")
    folder = existing_folder(arguments.folder)
    collector = Collector(*arguments.arenas, folder=folder, most=arguments.most)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        if arguments.json:
            _print(registry, screen)
        elif arguments.textfile:
            _write(arguments, registry)
        else:
            _serve(arguments, registry, screen)
    finally:
        collector.close()
    return 0


def _print(registry: CollectorRegistry, screen: Screen) -> None:
    samples = [
        {"name": one.name, "labels": one.labels, "value": one.value}
        for family in registry.collect()
        for one in family.samples
    ]
    screen.json({"samples": samples})


def _write(arguments: argparse.Namespace, registry: CollectorRegistry) -> None:
    from prometheus_client import write_to_textfile

    ended = _ended()
    while True:
        # Beside the file, and renamed: who reads it sees all of it or the one before.
        write_to_textfile(arguments.textfile, registry)
        if arguments.every is None or ended.wait(arguments.every):
            return


def _serve(arguments: argparse.Namespace, registry: CollectorRegistry, screen: Screen) -> None:
    from prometheus_client import start_http_server

    ended = _ended()
    server, thread = start_http_server(arguments.port, arguments.address, registry)
    host = f"[{arguments.address}]" if ":" in arguments.address else arguments.address
    screen.line(f"serving http://{host}:{server.server_port}/metrics")
    screen.flush()
    try:
        ended.wait()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _ended() -> threading.Event:
    """Set by SIGTERM, which is how a service is ended: in good order. (Ctrl-C raises.)"""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> Any:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    return ended
