"""The recipes of `deploy/`, as far as they can be tried without an engine: what they name is there, and it runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.service import shops
from tests.snippets import check_form

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
INSTRUCTIONS = set(
    ["FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"]
)


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, what it says) of each; comments left out, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def said(instruction: str) -> str:
    """What the last of these instructions says."""
    return [rest for word, rest in dockerfile() if word == instruction][-1]


def test_the_dockerfile_is_of_known_instructions_and_pins_its_base() -> None:
    assert {word for word, _ in dockerfile()} <= INSTRUCTIONS
    assert dockerfile()[0][0] == "FROM"
    assert re.fullmatch(r"python:3\.\d+-slim", said("FROM"))
    for word in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(said(word)), list)  # no shell between the signals and the service


def test_nothing_runs_as_root() -> None:
    words = [word for word, _ in dockerfile()]
    assert words.index("USER") > max(at for at, word in enumerate(words) if word in ("RUN", "COPY"))
    assert int(said("USER").partition(":")[0]) > 0


def test_what_is_copied_is_there() -> None:
    for word, rest in dockerfile():
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_the_steps_name_extras_and_options_that_there_are() -> None:
    for step in said("RUN").split(" && "):
        if "pip install" in step:
            check_form(step.replace("--no-cache-dir ", "").replace('".[serve]"', "recs-core[serve]"))
    check_form(shlex.join([*json.loads(said("ENTRYPOINT")), *json.loads(said("CMD"))]))
    unit = (DEPLOY / "recs.service").read_text("utf-8")
    check_form(re.findall(r"^ExecStart=(.*)$", unit, flags=re.M)[0])


def test_the_compose_file_gives_no_rights_and_writes_nothing() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["recs"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"][0]["read_only"] is True
    assert "RECS_API_KEY:?" in service["environment"]["RECS_API_KEY"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert int(service["stop_grace_period"].rstrip("s")) > 30 + 5


def test_the_probes_of_kubernetes_are_routes(client: Any) -> None:
    pod = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
    container = pod["containers"][0]
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert {client.get(path).status_code for path in paths.values()} == {200}
    linger = int(container["args"][container["args"].index("--linger") + 1])
    assert pod["terminationGracePeriodSeconds"] > linger + 30
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.slow
def test_the_steps_of_the_image_serve_a_bundle(bundle: Path, tmp_path: Path) -> None:
    """From what is copied and nothing else, with the command and the health check of the image, on a bundle that cannot
    be written to. What is installed beside is that of this environment."""
    context = tmp_path / "context"
    for word, rest in dockerfile():
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                here = context / target / (Path(source).name if target.endswith("/") else "")
                here.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, here)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=context, check=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    mounted = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    for file in (*mounted.iterdir(), mounted):
        file.chmod(0o555 if file.is_dir() else 0o444)
    entry, options = json.loads(said("ENTRYPOINT")), json.loads(said("CMD"))
    command = [str(mounted) if word == "/bundle" else word for word in [*entry[1:], *options]]
    environment = {**os.environ, "PYTHONPATH": str(installed), "RECS_API_KEY": "k", "PYTHONDONTWRITEBYTECODE": "1"}
    log = tmp_path / "log"
    recs = [sys.executable, "-c", "from recs_core.cli.main import main; main()"]
    with (
        log.open("w") as stderr,
        subprocess.Popen([*recs, *command, "--port", "0"], stderr=stderr, env=environment, cwd=tmp_path) as process,
    ):
        try:
            shops.wait_until(lambda: "bundle serves" in log.read_text("utf-8") or process.poll() is not None)
            url = json.loads(log.read_text("utf-8").splitlines()[0])["url"].replace("0.0.0.0", "127.0.0.1")
            health = json.loads(said("HEALTHCHECK").partition("CMD ")[2])
            program = health[-1].replace("http://127.0.0.1:8000/", url)
            assert program != health[-1]
            subprocess.run([sys.executable, *health[1:-1], program], check=True)
            asked = httpx.post(f"{url}recommend", json={"queries": [100]}, headers={"x-api-key": "k"})
            assert asked.status_code == 200
            assert httpx.get(url).status_code == 200  # the page came along
        finally:
            process.terminate()
        assert process.wait(60) == 0
