"""`recs serve` as a command, and the door of the extra."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

import recs_core.service
from recs_core.cli.main import main
from recs_core.contract.errors import MissingExtra
from recs_core.service import asgi
from recs_core.service.auth import check_host
from tests.service import shops
from tests.test_import import FRAMEWORKS


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command says."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_beyond_this_machine_it_wants_a_key(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RECS_API_KEY", raising=False)
    assert "RECS_API_KEY" in told(capsys, str(bundle), "--host", "0.0.0.0")
    monkeypatch.setenv("RECS_API_KEY", "k")
    assert "contradict" in told(capsys, str(bundle), "--host", "0.0.0.0", "--no-auth")


@pytest.mark.parametrize("key", ["secret\n", " secret", "sécret", "se\tcret", "\n"])
def test_a_key_that_no_request_can_bring_is_refused(
    bundle: Path, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECS_API_KEY", key)
    monkeypatch.setattr("recs_core.service.server.run", lambda *_: pytest.fail("it serves"))
    said = told(capsys, str(bundle))
    assert "api_key" in said and "cret" not in said


def test_a_key_of_printable_ascii_is_brought_as_it_is(bundle: Path) -> None:
    key = "".join(map(chr, range(33, 127)))
    with shops.ready(bundle, api_key=key) as client:
        for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            assert client.post("/recommend", json={"queries": [100]}, headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_on_this_machine_it_does_not(host: str) -> None:
    check_host(host, None, no_auth=False)
    check_host("0.0.0.0", None, no_auth=True)
    check_host("0.0.0.0", "key", no_auth=False)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
    ],
)
def test_a_name_that_points_here_is_not_this_machine(bundle: Path, host: str, status: int) -> None:
    """Else the page of a site that is open in a browser here could read what people had (DNS rebinding)."""
    with TestClient(asgi(bundle, local=True), headers={"host": host}) as client:
        assert client.get("/livez").status_code == status
        assert client.get("/").status_code == status
        assert client.post("/recommend", json={}).status_code in ((422, 503) if status == 200 else (421,))


def test_what_cannot_be_served_is_said_at_once(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RECS_API_KEY", raising=False)
    assert str(tmp_path / "none") in told(capsys, str(tmp_path / "none"))
    newer = Path(shutil.copytree(bundle, tmp_path / "newer"))
    (newer / "manifest.json").write_text('{"format": "recs-core bundle", "version": 999}')
    assert "newer" in told(capsys, str(newer))
    assert "pip install" in told(capsys, str(bundle), "--index", "faizz")
    assert "unknown is oov" in told(capsys, str(bundle), "--unknown", "guess")


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1"])
@pytest.mark.parametrize("option", ["--deadline", "--linger", "--drain"])
def test_seconds_are_finite(
    bundle: Path, option: str, seconds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RECS_API_KEY", raising=False)
    monkeypatch.setattr("recs_core.service.server.bound", lambda *_: pytest.fail("it listens"))
    said = told(capsys, str(bundle), option, seconds)
    assert option.strip("-") in said and "finite" in said


def test_an_address_that_is_taken(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another" in told(capsys, str(bundle), "--port", str(taken.getsockname()[1]))


def test_without_the_extra_it_names_the_line_to_type(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setattr(recs_core.service, "NEEDED", ("fastapi", "no_such_module_anywhere"))
    with pytest.raises(MissingExtra, match=r'needs no_such_module_anywhere; pip install "recs-core\[serve\]"'):
        recs_core.service.asgi(bundle)


def test_no_framework_is_in_the_process(bundle: Path) -> None:
    program = f"""
import sys, time
from starlette.testclient import TestClient
from recs_core.service import asgi
with TestClient(asgi({str(bundle)!r})) as client:
    while client.get("/readyz").status_code != 200: time.sleep(.01)
    assert client.post("/recommend", json={{"queries": [100]}}).status_code == 200
print(sorted(set({FRAMEWORKS!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_an_address_of_every_kind_answers(bundle: Path, tmp_path: Path) -> None:
    with shops.serving(bundle, tmp_path / "log", "--host", "::1", "--workers", "2", key="k") as process:
        ask = {"queries": [100]}
        assert httpx.post(f"{process.url}recommend", json=ask).status_code == 401
        for _ in range(6):
            assert httpx.post(f"{process.url}recommend", json=ask, headers={"x-api-key": "k"}).status_code == 200
        text = httpx.get(f"{process.url}metrics", headers={"x-api-key": "k"}).text  # of both workers together
        assert 'recs_requests_total{outcome="ok",route="/recommend"} 6.0' in text
