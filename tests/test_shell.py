"""What every command of `recs` does where the world is against it: one line, exit code 2, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recs_core.cli import main as shell
from recs_core.cli.main import main

V1 = str(Path(__file__).parent / "bundle" / "kept" / "v1")
RECS = [sys.executable, "-c", "from recs_core.cli.main import main; main()"]
COMMANDS = [
    ("--help",),
    ("--version",),
    ("data", "list"),
    ("data", "list", "--json"),
    ("data", "check", "report"),
    ("backends",),
    ("bundle", "info", V1),
    ("bundle", "verify", V1, "--json"),
    ("recommend", V1, "--query", "100"),
    ("recommend", V1, "--query", "100", "--json"),
]
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def one_line(done, said):
    err = done.stderr.decode()
    assert done.returncode == 2, err
    assert said in err
    assert err.startswith("recs: ") and err.count("\n") == 1


@needs_full
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_behind_the_output(command):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*RECS, *command], stdout=full, stderr=subprocess.PIPE, check=False)
    one_line(done, "No space left on device")


@pytest.mark.parametrize("command", COMMANDS[2:], ids=" ".join)
def test_an_output_whose_reader_has_gone(command):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*RECS, *command], stdout=write, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write)
    one_line(done, "the output was closed")


@needs_full
def test_no_place_to_say_so_either():
    with open("/dev/full", "wb") as full:
        assert subprocess.run([*RECS, "data", "list"], stdout=full, stderr=full, check=False).returncode == 2


def test_without_any_output():
    command = f"{sys.executable} -c 'from recs_core.cli.main import main; main()' data list >&- 2>/dev/null"
    assert subprocess.run(["sh", "-c", command], check=False).returncode in (0, 2)


@pytest.mark.parametrize("command", [("recommend", V1), ("train", "--recipe"), ("bundle", "info")], ids=" ".join)
def test_an_argument_that_is_not_utf8(command):
    done = subprocess.run([*RECS, *command, b"--query=\xff"], capture_output=True, check=False)
    one_line(done, "is not UTF-8")


@pytest.mark.parametrize("k", [9, 10**8, 2**31, 2**63 - 1, 10**20])
def test_k_beyond_the_corpus(k, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["recommend", V1, "--query", "100", "-k", str(k)])
    assert not ended.value.code
    assert len(capsys.readouterr().out.splitlines()) == 1 + 9


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "/x/y"), 2, "recs: /x/y: No space left on device\n"),
        (MemoryError(), 2, "recs: out of memory\n"),
        (UnicodeEncodeError("ascii", "aé", 1, 2, "no"), 2, "recs: the output cannot show '\\xe9': set PYTHON"),
    ],
    ids=repr,
)
def test_what_a_command_may_end_with(error, code, said, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setattr(shell, "_run", fail)
    with pytest.raises(SystemExit) as ended:
        main(["data", "list"])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (code, "")
    assert err.startswith(said) and err.count("\n") == (code == 2)


def test_wrong_usage_is_still_explained(capsys):
    for arguments, said in ((["nonsense"], "nonsense"), (["recommend", V1, "-k", "x"], "-k"), ([], "Usage")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert ended.value.code == 2 or arguments == []
        assert said in out + err


def test_a_warning_is_one_line():
    done = subprocess.run([*RECS, "recommend", V1, "--query", "31337"], capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(b"recs: 1 of 1 queries were never seen") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("other", ["0100", "1_00", "+100", " 100", "１００", "100.0", "x", ""])
def test_what_only_resembles_an_integer_id_is_no_id(other, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["recommend", V1, f"--query={other}"])
    said = f"recs: --query: the ids of 'user' are integers, got {other!r}; write one as in 100\n"
    assert capsys.readouterr().err == said
