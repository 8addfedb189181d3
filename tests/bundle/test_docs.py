"""docs/bundle.md and the code say the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from recs_core import bundle
from recs_core.bundle import golden
from recs_core.fitted import Native
from recs_core.storage import files, manifest, tensors

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
V1 = Path(__file__).parent / "kept" / "v1"


def table(heading):
    """First cell → second cell of the table under a heading."""
    section = PAGE.split(f"### {heading}")[1].split("\n#")[0]
    rows = [line.strip("| ").split(" | ", 1) for line in section.splitlines() if line.startswith("| `")]
    return {name.strip("`"): text for name, text in rows}


def test_every_field_of_the_manifest_is_on_the_page_and_in_its_order():
    fields = json.loads((V1 / "manifest.json").read_bytes())
    assert list(fields) == [field for field in table("manifest.json") if field != "index"]  # where one was built


@pytest.mark.parametrize("field", ["model", "schema", "position", "run", "provenance"])
def test_so_is_every_field_below(field):
    inside = bundle.info(V1).manifest[field]
    named = re.findall(r"`([a-z_]+)`", table("manifest.json")[field])
    assert set(inside) == set(named) - {"type"}


def test_so_is_what_is_said_of_a_native_tower():
    text = PAGE.split("`model` also holds `native`")[1].split("\n\n")[0]
    assert re.findall(r"`([a-z_]+)`", text) == [field.name for field in dataclasses.fields(Native)]


def test_every_part_is_on_the_page():
    assert {*bundle.info(V1).manifest["contents"], "best", "vectors", "index"} == set(table("Arrays (`….safetensors`)"))


def test_numbers_on_the_page():
    assert f"Format, version {manifest.VERSION}\n" in PAGE
    assert f'`"{manifest.FORMAT}"`' in PAGE
    assert f"at most {manifest.LIMIT >> 20} MiB, no name" in PAGE
    assert f"a header of at most {tensors.HEADER_LIMIT >> 20} MiB" in PAGE
    assert f"dtypes {', '.join(tensors.DTYPES)}." in PAGE
    assert f"{golden.TOLERANCE:.0e}".replace("e-0", "e-") in PAGE


def test_a_reader_written_from_the_page_alone():
    """The digests and the first array, with nothing of ours."""
    data = (V1 / "manifest.json").read_bytes()
    assert data[-4:] == b'"\n}\n'
    assert hashlib.sha256(data[:-68]).hexdigest() == data[-68:-4].decode()
    fields = json.loads(data)
    for name, facts in fields["files"].items():
        content = (V1 / name).read_bytes()
        assert len(content) == facts["length"]
        assert hashlib.sha256(content).hexdigest() == facts["sha256"]
        assert name.split("-")[1].startswith(facts["sha256"][:16])
    content = (V1 / fields["contents"]["weights"]).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["table/user"]["shape"] == [fields["schema"]["table_rows"]["table/user"], 4]


def test_names_of_temporary_files_are_known_as_leftovers(tmp_path):
    for name in ("weights.safetensors.tmp", "ids.arrow.tmp", "manifest.json.tmp", "README.md.tmp"):
        (tmp_path / name).touch()
    assert files.others(tmp_path, ())[1] == []
