"""`recs monitor`: logs worked by hand, and the log of a real service."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import recs_core as recs
from recs_core.cli.main import main
from recs_core.contract.errors import ConfigError, DataError
from recs_core.monitor import monitor
from recs_core.monitor.drift import Drift, counts_of, edges_of, psi
from recs_core.monitor.reference import Reference
from recs_core.service import Settings
from tests.service import shops

# The statistic


def test_the_index_of_hand_counted_bins() -> None:
    """(.6 − .4) ln 1.5 + (.4 − .6) ln(2/3) = .4 ln 1.5, in the two bins that hold anything."""
    seen, expected = np.zeros(10, np.int64), np.zeros(10)
    seen[[0, 9]], expected[[0, 9]] = [60, 40], [0.4, 0.6]
    index, limit = psi(seen, expected, 200)
    assert index == pytest.approx(0.4 * math.log(1.5))
    assert limit == pytest.approx(3.841 * (1 / 100 + 1 / 200), rel=0.03)  # χ² with one degree of freedom


def test_an_empty_bin_counts_half_a_value() -> None:
    seen, expected = np.array([10, 10, 0, 0, 0, 0, 0, 0, 0, 0]), np.array([0.5, 0, 0.5, 0, 0, 0, 0, 0, 0, 0])
    index, _ = psi(seen, expected, 50)
    assert index == pytest.approx((0.5 - 0.01) * math.log(0.5 / 0.01) + (0.025 - 0.5) * math.log(0.025 / 0.5))


def test_chance_stays_below_the_limit_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(0)
    above = 0
    for _ in range(400):
        edges = edges_of(reference := random.normal(size=2_000))
        index, limit = psi(counts_of(random.normal(size=300), edges), counts_of(reference, edges) / 2_000, 2_000)
        above += index > limit
    assert 0.02 < above / 400 < 0.09


def test_what_moves_by_a_deviation_has_drifted() -> None:
    random = np.random.default_rng(1)
    edges = edges_of(reference := random.normal(size=2_000))
    moved = psi(counts_of(random.normal(size=300) + 1, edges), counts_of(reference, edges) / 2_000, 2_000)
    assert Drift(*moved, 1.0, 0.0).verdict == "much"


@pytest.mark.parametrize(
    ("index", "limit", "verdict"),
    [(0.05, 0.02, "steady"), (0.15, 0.2, "steady"), (0.15, 0.05, "some"), (0.3, 0.05, "much"), (0.3, 0.26, "too few")],
)
def test_verdicts(index: float, limit: float, verdict: str) -> None:
    assert Drift(index, limit, 0.0, 0.0).verdict == verdict


def test_values_on_an_edge_and_ties() -> None:
    edges = edges_of(np.full(100, 7.0))
    assert counts_of(np.array([6.0, 7.0, 7.0, 8.0]), edges).tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]


# Logs worked by hand


def line(bundle: str, day: str = "2026-11-25", **told: Any) -> str:
    known = {"at": f"{day}T10:00:00.000Z", "level": "info", "event": "request", "route": "/recommend", "status": 200}
    return json.dumps({**known, "bundle": bundle, "num_queries": 1, "num_unknown": 0, **told})


def answered(*candidates: str, top: float | None = 1.0, by: str = "model") -> dict[str, Any]:
    return {"answered_by": by, "top": top if candidates else None, "candidates": list(candidates)}


ASKED = {"k": 2, "exclude_seen": True, "narrowed": False}


@pytest.fixture(scope="module")
def digest(bundle: Path) -> str:
    return str(recs.bundle.info(bundle).manifest["digest"])


def written(tmp_path: Path, *lines: str) -> Path:
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines) + "\n")
    return log


def test_a_log_counted_by_hand(bundle: Path, digest: str, tmp_path: Path) -> None:
    """Two days; 3 of 5 queries unknown on the first; 3 of 90 candidates recommended, one of them by popularity."""
    mine = digest[:12]
    log = written(
        tmp_path,
        json.dumps({"event": "listening", "at": "2026-11-25T09:00:00.000Z"}),
        line(mine, num_queries=2, num_unknown=1, asked=ASKED, answers=[answered("i0", "i1"), answered("i0", by="oov")]),
        line(mine, num_queries=2, num_unknown=2, asked=ASKED, answers=[answered(), answered("i5", by="popular")]),
        line(mine, asked={**ASKED, "narrowed": True}, answers=[answered("i1")]),
        line(mine, status=429, error_type="Full"),
        line(mine, route="/similar"),
        line(mine, day="2026-11-26"),
    )
    report = monitor(bundle, log)
    first, second = report.days
    assert (first.day, first.requests, first.refused, first.queries, first.unknown) == ("2026-11-25", 3, 1, 5, 3)
    assert first.unknown_share == 0.6
    assert first.coverage == pytest.approx(3 / 90)
    assert first.compared == 1  # by the model, not narrowed, not empty
    assert first.scores is not None and first.scores.mean == 1.0 and first.scores.verdict == "too few"
    counts = recs.load(bundle, runtime="numpy").catalog.counts
    assert first.popularity is not None and first.popularity.mean == pytest.approx(counts[:2].mean())
    assert (second.requests, second.coverage, second.scores, second.compared) == (1, None, None, 0)
    assert report.malformed == 0 and report.others == {} and report.bundle == digest


def test_the_reference_is_what_training_queries_are_answered(bundle: Path) -> None:
    model = recs.load(bundle, runtime="numpy")
    found = model.recommend_codes(model.schema.queries.ids, 3, exclude="seen")
    scores, popularity = Reference(model).expected(3, True)  # type: ignore[misc]
    assert scores.size == 40 and scores.mean == pytest.approx(found.scores[:, 0].mean())
    assert popularity.mean == pytest.approx(model.catalog.counts[found.ids].mean())
    np.testing.assert_allclose(scores.shares, np.full(10, 0.1))


def test_answers_like_the_references_are_steady_whatever_their_k(bundle: Path, digest: str, tmp_path: Path) -> None:
    """With and without what was seen, whose scores are others: each is held against its own kind. And popular ones,
    and higher scores, have drifted."""
    model, lines = recs.load(bundle, runtime="numpy"), []
    best = np.argsort(-model.catalog.counts, kind="stable")[:5]
    popular = [model.schema.candidates.ids[int(code)].as_py() for code in best]
    for k, seen in ((2, True), (5, True), (5, False)):
        found = model.recommend(model.schema.queries.ids, k, exclude="seen" if seen else None)
        asked = {"k": k, "exclude_seen": seen, "narrowed": False}
        for ids, scores in zip(found.ids.tolist(), found.scores.tolist(), strict=True):
            lines += [line(digest[:12], asked=asked, answers=[answered(*ids, top=scores[0])])] * 3
            lines.append(line(digest[:12], "2026-11-26", asked=asked, answers=[answered(*popular, top=scores[0] + 1)]))
    steady, moved = monitor(bundle, written(tmp_path, *lines)).days
    assert steady.scores is not None and steady.popularity is not None
    assert moved.scores is not None and moved.popularity is not None
    assert steady.scores.psi < 1e-9 and steady.popularity.psi < 1e-9
    assert steady.scores.mean == pytest.approx(steady.scores.reference_mean)
    assert moved.scores.psi > 1 and moved.popularity.psi > 1
    assert moved.scores.mean == pytest.approx(moved.scores.reference_mean + 1)


BAD = [
    "not JSON",
    "[1]",
    '{"event": 3}',
    '{"event": "request", "route": "/recommend", "at": "yesterday", "status": 200}',
    line("short"),
    line("0" * 12, num_queries=1, num_unknown=2),
    line("0" * 12, num_queries=True),
    line("0" * 12, asked=ASKED, answers=[]),
    line("0" * 12, asked=ASKED, answers=[answered("i0", top=math.nan)]),
    line("0" * 12, asked=ASKED, answers=[{"answered_by": "model", "top": 1, "candidates": [3]}]),
    line("0" * 12, answers=[answered("i0")]),
    "[" * 100_000,
    "\udcff",
]


def test_lines_that_cannot_be_read_are_counted_and_the_first_named(bundle: Path, digest: str, tmp_path: Path) -> None:
    bad = [text.replace("0" * 12, digest[:12]) for text in BAD]
    strange = line(digest[:12], asked=ASKED, answers=[answered("no such candidate")])
    log = tmp_path / "log.jsonl"
    lines = [line(digest[:12]), "", *bad, strange, line(digest[:12])]
    log.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    report = monitor(bundle, log)
    assert (report.malformed, report.first_malformed) == (len(BAD) + 1, 3)
    assert report.days[0].requests == 2


def test_logs_that_tell_nothing(bundle: Path, digest: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no line tells of an answered request; give the log"):
        monitor(bundle, written(tmp_path, ""))
    with pytest.raises(DataError, match="and 2 cannot be read, the first is line 1"):
        monitor(bundle, written(tmp_path, "what", "else"))
    with pytest.raises(DataError, match=f"by other bundles, whose digests begin with 'feedfeedfeed'.*{digest[:12]}"):
        monitor(bundle, written(tmp_path, line("feedfeedfeed")))
    with pytest.raises(DataError, match="none: no such file; give the log of `recs serve`"):
        monitor(bundle, tmp_path / "none")


def test_requests_of_another_bundle_are_left_out_and_said(
    bundle: Path, digest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = written(tmp_path, line("feedfeedfeed"), line(digest[:12]), line("feedfeedfeed"), "?")
    with pytest.raises(SystemExit) as ended:
        main(["monitor", str(bundle), "--requests", str(log)])
    said = capsys.readouterr().out
    assert not ended.value.code
    assert "other bundles answered are left out: feedfeedfeed (2)" in said
    assert "left out: 1, the first is line 4" in said
    assert "recs serve --log-answers" in said


# A real service


def test_answers_are_logged_with_their_requests_or_not_at_all() -> None:
    with pytest.raises(ConfigError, match="log_answers"):
        Settings("bundle", log_requests=False, log_answers=True)


@pytest.mark.slow
def test_the_log_of_a_service_is_read_as_it_is(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    with shops.serving(bundle, log, "--log-answers") as process:
        for query in (*range(100, 140), 7):
            asked = {"queries": [query], "k": 3, "exclude_seen": True}
            assert httpx.post(f"{process.url}recommend", json=asked).status_code == 200
        httpx.post(f"{process.url}recommend", json={"queries": [100], "k": 3, "where": "price < 2"})
        httpx.post(f"{process.url}recommend", json={"queries": [100], "k": 0})
        shops.wait_until(lambda: sum(event["event"] == "request" for event in process.events()) == 43)
    assert "139" not in {str(part) for event in process.events() for part in event.values()}
    with pytest.raises(SystemExit) as ended:
        main(["monitor", str(bundle), "--requests", str(log), "--json"])
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)
    (day,) = told["days"]
    assert (day["requests"], day["refused"], day["queries"], day["unknown"]) == (42, 1, 42, 1)
    assert day["compared"] == 40  # all but the unknown one and the filtered one
    assert day["scores"]["psi"] == pytest.approx(0, abs=1e-9)
    assert day["popularity"]["psi"] == pytest.approx(0, abs=1e-9)
    model = recs.load(bundle, runtime="numpy")
    found = model.recommend_codes([*range(100, 140)], 3, exclude="seen").ids
    assert day["coverage"] >= len(np.unique(found)) / 90


def test_without_log_answers_no_candidate_is_logged(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "recs_core.service"), shops.ready(bundle) as client:
        client.post("/recommend", json={"queries": [100, 7], "k": 3})
    (told,) = (record.told for record in caplog.records if record.getMessage() == "request")
    assert (told["num_queries"], told["num_unknown"]) == (2, 1)
    assert "answers" not in told and "asked" not in told
