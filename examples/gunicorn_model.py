"""A web server whose workers share one model, which is swapped while they serve.

Run it: python examples/gunicorn_model.py   (without gunicorn it only says so)
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import flagstone

REQUESTS = 300
APP = "gunicorn_model:app"
_stores = {}


def load(version):
    """A model: layers that belong together."""
    return {"version": version, "layers": [np.full((300, 300), float(version)) for _ in range(4)]}


def app(environ, start_response):
    """What gunicorn's workers run: the answer comes from whatever model is current."""
    name = os.environ["MODEL_ARENA"]
    if name not in _stores:
        _stores[name] = flagstone.open(name, create=False).store("models")
    model = _stores[name]["model"]
    found = {float(value) for layer in model["layers"] for value in np.unique(layer)}
    whole = found == {float(model["version"])}
    start_response("200 OK" if whole else "500 Torn", [("Content-Type", "text/plain")])
    return [f"{model['version']} {os.getpid()}".encode()]


def ask(port):
    """Ask until somebody answers: the one who was asked may be killed."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.status == 200, answer.reason
            version, pid = answer.read().split()
            return int(version), int(pid)
        except (ConnectionError, http.client.HTTPException):
            continue
        finally:
            connection.close()


def main():
    """Serve, swap the model after every tenth answer, and kill a worker on the way."""
    name = f"gunicorn-{os.getpid()}"
    with (
        flagstone.open(name, capacity="256MiB") as arena,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        store = arena.store("models")
        store["model"] = load(0)
        options = f"--workers 2 --log-level critical --bind fd://{server.fileno()}"
        folder = str(Path(__file__).parent)
        gunicorn = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options.split(), "--chdir", folder, APP],
            env={**os.environ, "MODEL_ARENA": name},
            pass_fds=[server.fileno()],
        )
        port = server.getsockname()[1]
        swaps, newest, workers = 0, 0, set()
        for number in range(REQUESTS):
            version, pid = ask(port)
            assert newest <= version <= swaps  # never an older model than an answer before
            newest = version
            workers.add(pid)
            if number % 10 == 9:
                swaps += 1
                store["model"] = load(swaps)
            if number == REQUESTS // 2:
                os.kill(pid, signal.SIGKILL)
        gunicorn.terminate()
        gunicorn.wait()
        print(f"{REQUESTS} requests answered while the model was swapped {swaps} times")
        print(
            f"the store holds {store['model']['version']}, one worker of {len(workers)} was killed"
        )


if __name__ == "__main__":
    if find_spec("gunicorn") is None:
        print("gunicorn is not installed: pip install gunicorn")
    else:
        main()
