"""The page in a real browser, at phone and desktop widths, in light and dark; the application is mounted in another."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from recs_core.service import asgi
from tests.compare.test_browser import CHROMIUM, contrast, luminance
from tests.service import shops

PROBE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe src="/recs/#100" style="border:0;width:WIDTHpx;height:2000px"></iframe>
<script>
const frame = document.querySelector("iframe");
const until = async true_ => { while (!true_()) await new Promise(done => setTimeout(done, 20)); };
const names = page => [...page.querySelectorAll("#first .name")].map(name => name.textContent);
frame.onload = async () => {
  const page = frame.contentDocument, root = page.documentElement, view = frame.contentWindow;
  const style = element => view.getComputedStyle(element);
  const said = {};
  await until(() => names(page).length && page.querySelectorAll("#second .name").length);
  said.width = root.clientWidth; said.scroll = root.scrollWidth;
  said.first = names(page);
  said.past = [...page.querySelectorAll("#history .name")].map(name => name.textContent);
  said.only = page.querySelectorAll("#first .only").length;
  said.paper = style(page.body).backgroundColor; said.ink = style(page.body).color;
  said.soft = style(page.querySelector(".note")).color;
  said.card = style(page.querySelector("#first")).backgroundColor;
  const main = page.querySelector("main button");
  said.button = [style(main).color, style(main).backgroundColor];
  const controls = [...page.querySelectorAll("button, input")].filter(one => one.checkVisibility());
  said.unnamed = controls.filter(one => !(one.labels?.length || one.textContent || one.ariaLabel)).length;
  said.smallest = Math.min(...controls.map(one => one.getBoundingClientRect().height));
  said.ids = [...page.querySelectorAll("[id]")].map(one => one.id);
  page.querySelector("#first button[aria-expanded]").click();
  await until(() => page.querySelector("#first .why li"));
  said.why = [...page.querySelectorAll("#first .why li")].map(line => line.textContent);
  page.querySelector("#first button[aria-label^='Leave out']").click();
  await until(() => names(page)[0] !== said.first[0]);
  said.without = names(page);
  said.focus = page.activeElement.id;
  page.querySelector("#where").value = "price > 1000";
  page.querySelector("#ask").requestSubmit();
  await until(() => !names(page).length);
  said.status = page.querySelector("[role=status]").textContent;
  page.querySelector("#where").value = "price <";
  page.querySelector("#ask").requestSubmit();
  await until(() => page.querySelector("[role=alert]").textContent);
  said.alert = page.querySelector("[role=alert]").textContent;
  document.body.append(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(said)}));
};
</script>"""


@pytest.fixture(scope="module")
def mounted(additive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an application that has the service at /recs, with a second bundle beside."""
    beside = shops.save(tmp_path_factory.mktemp("beside") / "bundle", layers=(), seed=3)

    async def probe(request: Any) -> HTMLResponse:
        return HTMLResponse(PROBE.replace("WIDTH", request.path_params["width"]))

    inner = asgi(additive, beside=str(beside))
    app = Starlette(routes=[Route("/probe/{width}", probe), Mount("/recs", inner)])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with contextlib.suppress(httpx.HTTPError):
            shops.wait_until(lambda: httpx.get(f"{url}/recs/readyz").status_code == 200)
        yield url
        server.should_exit = True
        thread.join()
        inner.service.close()


@pytest.fixture(scope="module", params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], ids=str)
def seen(request: pytest.FixtureRequest, mounted: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser laid out, and what came of each click."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the path; `apt-get install chromium`")
    width, scheme = request.param
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
        "--virtual-time-budget=20000", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        "--window-size=1400,2200", f"{mounted}/probe/{width}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    return {**json.loads(unescape(found[1])), "asked": width, "scheme": scheme}


@pytest.mark.slow
def test_the_page_shows_what_the_service_answers(seen: dict[str, Any], mounted: str) -> None:
    """By name, with what training saw beside; a name that looks like HTML is text."""
    ask = {"queries": [100], "k": 10, "exclude_seen": True, "attributes": True}
    told, beside = (httpx.post(f"{mounted}/recs/{path}", json=ask).json() for path in ("recommend", "beside/recommend"))
    names, others = ([c["attributes"]["title"] for c in t["answers"][0]["candidates"]] for t in (told, beside))
    assert seen["first"] == names
    assert seen["only"] == len(set(names) - set(others))
    past = httpx.post(f"{mounted}/recs/history", json={"query": 100, "last": 20}).json()
    assert seen["past"] == [candidate["attributes"]["title"] for candidate in past["candidates"]]
    assert all(name.startswith("Thing <") for name in names)


@pytest.mark.slow
def test_what_is_left_out_is_gone_and_the_rest_moves_up(seen: dict[str, Any]) -> None:
    assert seen["without"][:9] == seen["first"][1:]
    assert seen["focus"] == "lists"  # where reading goes on


@pytest.mark.slow
def test_reasons_are_by_name(seen: dict[str, Any]) -> None:
    assert 1 <= len(seen["why"]) <= 4
    assert all(re.search(r"[+−]\d+\.\d{3}$", line) for line in seen["why"])
    assert any(line.startswith("Thing <") for line in seen["why"])


@pytest.mark.slow
def test_what_came_of_it_is_said_aloud(seen: dict[str, Any]) -> None:
    assert seen["status"] == "0 recommended: no more are left."
    assert "where" in seen["alert"]


@pytest.mark.slow
def test_nothing_sticks_out_and_all_can_be_touched_and_named(seen: dict[str, Any]) -> None:
    assert seen["width"] == seen["asked"]
    assert seen["scroll"] <= seen["width"]
    assert seen["unnamed"] == 0
    assert len(seen["ids"]) == len(set(seen["ids"]))
    assert seen["smallest"] >= 20


@pytest.mark.slow
def test_text_stands_out_in_both_schemes(seen: dict[str, Any]) -> None:
    assert (luminance(seen["paper"]) > 0.5) == (seen["scheme"] == "light")
    assert contrast(seen["ink"], seen["paper"]) >= 7
    assert contrast(seen["soft"], seen["card"]) >= 4.5
    assert contrast(*seen["button"]) >= 4.5


class Sources(HTMLParser):
    """Where the page takes anything from, and whether it has code of its own within."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)


def test_the_page_takes_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    sources = Sources()
    sources.feed(page.text)
    assert sources.found == ["page.css", "data:,", "page.js", "#lists"]
    for name in ("page.css", "page.js"):
        text = client.get(f"/{name}").text
        assert text == (files("recs_core.service") / "page" / name).read_text("utf-8")
        assert not re.search(r"https?://|@import|innerHTML", text)


def test_without_the_page_there_is_none(bundle: Path) -> None:
    with TestClient(asgi(bundle, page=False)) as client:
        assert client.get("/").status_code == 404
