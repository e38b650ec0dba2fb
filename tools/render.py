"""render [PAGE...] - look at pages of build/site with headless Chromium: are they whole?

Each page is shown once, by a browser that finds no other host: every file that a page asks for is
there, every picture has been drawn, the page has a heading and a menu, and neither it nor a table
is wider than there is room (one of nine columns may be). Without names: one page of each kind. A
picture of the first page is written to build/site.png. The search is tried as who reads the site
from a disk has it.
"""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from html import unescape
from pathlib import Path

SITE = Path(__file__).resolve().parents[1] / "build" / "site"
PAGES = ("index", "how", "comparison", "guides/groups", "reference/block", "benchmarks/index")
PROBE = """<!doctype html><title>probe</title><pre id="report"></pre><script>
const found = {}, pages = %s;
let left = pages.length;
const look = (frame, page) => {
  const inside = frame.contentDocument, root = inside.documentElement;
  found[page] = {
    heading: inside.querySelectorAll("h1").length,
    menu: inside.querySelectorAll("nav a").length,
    pictures: inside.images.length,
    missing: [...inside.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.src),
    wider: root.scrollWidth - root.clientWidth,
    cut: [...inside.querySelectorAll("article table")].filter(table => {
      const room = table.closest(".md-typeset__scrollwrap") || table;
      return room.scrollWidth > room.clientWidth && table.rows[0].cells.length < 9;
    }).map(table => table.textContent.trim().slice(0, 40)),
  };
  if (--left === 0) document.getElementById("report").textContent = JSON.stringify(found);
};
for (const page of pages) {
  const frame = document.createElement("iframe");
  Object.assign(frame, {width: 1300, height: 1000, src: "/" + page + ".html"});
  frame.onload = () => look(frame, page);
  document.body.append(frame);
}
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site and the probe, and remembers what was not there."""

    probe = ""

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path != "/probe":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.probe.encode())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Remember it, but for the icon that browsers ask for by themselves."""
        if self.path != "/favicon.ico":
            self.wrong.append(f"{self.path}: {code}")
        super().send_error(code, message, explain)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    wrong: list[str]


def main() -> int:
    """Look at the pages, say what is wrong."""
    pages = sys.argv[1:] or list(PAGES)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("skipped: no chromium is installed (tools/setup-system docs)")
        return 1
    wrong: list[str] = []
    handler = type("Here", (Handler,), {"probe": PROBE % json.dumps(pages), "wrong": wrong})
    served = functools.partial(handler, directory=str(SITE))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server,
        tempfile.TemporaryDirectory() as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_address[1]}"
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={profile}", "--window-size=1300,1000"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",),
        ]
        picture = SITE.with_suffix(".png")
        subprocess.run(
            [*command, f"--screenshot={picture}", f"{here}/{pages[0]}.html"],
            check=True,
            capture_output=True,
            timeout=100,
        )
        shown = subprocess.run(
            [*command, "--virtual-time-budget=20000", "--dump-dom", f"{here}/probe"],
            check=True,
            capture_output=True,
            text=True,
            timeout=100,
        ).stdout
        server.shutdown()
        asked = f"{(SITE / pages[0]).as_uri()}.html?q=arena"
        answer = subprocess.run(
            [*command, "--virtual-time-budget=20000", "--dump-dom", asked],
            check=True,
            capture_output=True,
            text=True,
            timeout=100,
        ).stdout
    results = len(re.findall(r'class="md-search-result__item"', answer))
    if not results:
        wrong.append("from a disk the search finds no arena")
    report = re.search(r'<pre id="report">(.+?)</pre>', shown)
    if report is None:
        print("the browser has not shown the pages")
        return 1
    for page, found in json.loads(unescape(report[1])).items():
        wrong += [f"{page}: not drawn: {source}" for source in found["missing"]]
        if not found["heading"] or found["menu"] < 10 or found["wider"] > 0 or found["cut"]:
            wrong.append(f"{page}: not whole: {found}")
        print(f"{page}: {found['pictures']} pictures, {found['menu']} links in the menu")
    print(f"search: {results} pages about an arena")
    print("\n".join(wrong) or "pages: fine")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
