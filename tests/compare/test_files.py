"""What a comparison writes: JSON by its schema, HTML that stands alone, Markdown, figures."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree

import jsonschema
import pytest

VOID = {"meta", "br", "hr", "img", "input", "link"}
SCHEMA = json.loads(files("recs_core.compare").joinpath("schema.json").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """Tags that do not close, ids, and everything that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.tags: list[str] = []
        self.labels: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "svg":
            self.labels += found["aria-labelledby"].split()
        self.refers += [found[name] for name in ("src", "href", "xlink:href") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(params=["good", "bad"])
def compared(request):
    return request.getfixturevalue(request.param)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_json_by_its_schema(compared):
    jsonschema.Draft202012Validator(SCHEMA).validate(compared.report)


@pytest.mark.parametrize("harm", ["version", "agree", "pairs", "unknown"])
def test_the_schema_refuses(good, harm):
    report = dict(good.report)
    if harm == "unknown":
        report["unknown"] = 1
    else:
        report[harm] = "2"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(report)


def test_html_stands_alone(compared):
    text = (compared.out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.wrong and not page.open
    assert [name for name in page.refers if not name.startswith("#")] == []
    assert {"#" + name for name in page.ids} >= set(page.refers)
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags and "link" not in page.tags
    assert not re.findall(r"url\((?!#)|@import", text)


def test_every_figure_has_a_title_and_a_description(compared):
    page = Page((compared.out / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 4
    assert len(page.labels) == 8
    assert set(page.labels) <= set(page.ids)


def test_figures_alone_are_xml_in_the_colours_of_both_schemes(compared):
    for name in ("loss", "metrics", "overlap", "cost", "summary"):
        text = (compared.out / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "prefers-color-scheme: dark" in text
        used, given = set(re.findall(r"var\(--(\w+)\)", text)), set(re.findall(r"--(\w+):", text))
        assert used <= given
        assert not re.findall(r"#0[0-9a]0[0-9a]0[0-9a]\b", text), "a stand-in colour is left"


def test_every_backend_and_verdict_is_in_every_form(compared):
    page = (compared.out / "report.html").read_text(encoding="utf-8")
    note = (compared.out / "report.md").read_text(encoding="utf-8")
    for row in compared.report["backends"]:
        assert row["name"] in page and row["name"] in note and row["name"] in compared.stdout
    for pair in compared.report["pairs"]:
        assert pair["line"] in note and pair["line"] in compared.stdout


def test_markdown_tables_are_whole(compared):
    lines = (compared.out / "report.md").read_text(encoding="utf-8").splitlines()
    width = None
    for line in lines:
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (None, cells), line
        width = cells


def test_the_lists_hold_what_the_backend_recommends(good):
    for shown in good.report["recommendations"]:
        assert [len(found) for found in shown["lists"].values()] == [5, 5, 5]
        for found in shown["lists"].values():
            scores = [item["score"] for item in found]
            assert scores == sorted(scores, reverse=True)
            assert len({item["id"] for item in found}) == 5


def test_what_is_recommended_is_told_beside_accuracy(good):
    """Of the oracle and of popularity, too: the same list lengths, the same share where lists are the same."""
    columns = [row["metrics"] for row in good.report["backends"]]
    columns += [good.report["oracle"]["metrics"], good.report["popularity"]]
    (coverage,) = {name for name in columns[0] if name.startswith("coverage@")}
    k = coverage.partition("@")[2]
    for found in columns:
        assert found[coverage].keys() == found[f"popularity@{k}"].keys() == {"value"}
        assert 0 < found[coverage]["value"] <= 1 <= found[f"popularity@{k}"]["value"]
    assert len({found[coverage]["value"] for found in columns[:-1]}) == 1
    assert columns[-1][f"popularity@{k}"]["value"] >= columns[0][f"popularity@{k}"]["value"]
    if k == "20":
        assert coverage in (good.out / "report.md").read_text(encoding="utf-8")
