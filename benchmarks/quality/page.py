"""Write docs/quality.md from the JSON files in results/.

python benchmarks/quality/page.py
"""

from __future__ import annotations

import argparse
import json
import shlex
from itertools import permutations
from pathlib import Path
from typing import Any

from command import RESULTS
from sets import SETS

NAMES = {"recall": "Recall", "ndcg": "NDCG", "hit_rate": "HR", "top_k_categorical_accuracy": "accuracy"}


def main() -> None:
    """Intro, a section per set, the backends side by side, new candidates, inputs, warmth, ablations."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--page", type=Path, default=RESULTS.parents[2] / "docs" / "quality.md")
    options = asked.parse_args()
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    text = (Path(__file__).parent / "intro.md").read_text().strip()
    sections = [text]
    for name in SETS:
        runs = [run for run in found.values() if run.get("set") == name and "rows" in run and "recipe" in run]
        if runs:
            sections.append(of_set(name, runs))
    fresh = [run for key, run in found.items() if key.startswith("new-candidates")]
    if fresh:
        sections.append(of_new_candidates(fresh))
    sections += [of_inputs(run) for key, run in found.items() if key.startswith("inputs")]
    for name in SETS:
        orders = {key: run for key, run in found.items() if run.get("orders") == name}
        if orders:
            sections.append(of_order(name, orders))
    warmth = [run for key, run in found.items() if key.startswith("warmth")]
    sections += [of_warmth(run) for run in warmth]
    for key, run in found.items():
        if key.startswith("ablation"):
            sections.append(of_ablation(run))
    options.page.write_text("\n\n".join(sections) + "\n")


def of_set(name: str, runs: list[dict[str, Any]]) -> str:
    """The table of a set: our row, the peers, the other backends, goals and times."""
    main_run = max(runs, key=lambda run: len(run["rows"]))
    ours, *peers = main_run["rows"]
    rows, test, queries, candidates = main_run["shape"]
    metrics = main_run["metrics"]
    lines = [
        f"## {name}",
        f"`python benchmarks/quality/run.py {name}{_data(name)}`: {rows:,} training rows, {test:,} test rows, "
        f"{queries:,} queries × {candidates:,} candidates. Recipe `{main_run['recipe']}`:",
        "\n".join(f"- {reason}" for reason in main_run["reasons"]),
        _table(
            [
                "",
                *map(_title, metrics),
                *(f"ours − it, {_title(metric)}" for metric in metrics),
                "tail",
                "time",
                "setting",
            ],
            [
                _row(f"**{ours['name']}**", ours, metrics),
                *(_row(peer["name"], peer, metrics) for peer in peers),
            ],
        ),
    ]
    goals = [
        f"{_title(metric)} {ours['metrics'][metric]['value']:.4f} (goal {goal:g}: "
        f"{'reached' if ours['metrics'][metric]['value'] >= goal else 'not reached'})"
        for metric, goal in zip(metrics, main_run["goals"], strict=False)
    ]
    lines.append(f"Mean of seeds {_listed(main_run['seeds'])} on {main_run['backend']}: {', '.join(goals)}.")
    if "with_training_items" in ours:
        lines[-1] += f" With training items left in the ranking: {ours['with_training_items']:.4f}."
    if main_run["left_out"]:
        lines.append(f"Left out: {'; '.join(main_run['left_out'])}.")
    lines.append(_backends(runs, metrics))
    return "\n\n".join(lines)


def _backends(runs: list[dict[str, Any]], metrics: list[str]) -> str:
    """Each backend with its own interval, and its epoch beside plain PyTorch's in the same run."""
    body = []
    for run in sorted(runs, key=lambda run: (-len(run["seeds"]), run["backend"])):
        ours = run["rows"][0]
        epoch = run.get("seconds_an_epoch")  # the plain loop knows no sequences
        ratio = f"{epoch['recipe'] / epoch['plain PyTorch']:.2f}×" if epoch else ""
        values = [_with_interval(ours["metrics"][metric]) for metric in metrics]
        body.append([run["backend"], _listed(run["seeds"]), *values, f"{ours['seconds'] / 60:.1f} min", ratio])
    table = _table(["backend", "seeds", *map(_title, metrics), "training", "an epoch ÷ plain PyTorch's"], body)
    return table if len(runs) == 1 else f"{table}\n\n{_agreement(runs, metrics)}"


def _agreement(runs: list[dict[str, Any]], metrics: list[str]) -> str:
    """Whether each backend's metrics lie within the intervals of every other: parity tier P5."""
    apart = [
        f"{one['backend']} outside {other['backend']}'s {_title(metric)}"
        for one, other in permutations(runs, 2)
        for metric in metrics
        if not _within(one["rows"][0]["metrics"][metric]["value"], other["rows"][0]["metrics"][metric])
    ]
    if apart:
        return f"Not within one another's intervals: {'; '.join(apart)}."
    return "Each backend's metrics lie within the intervals of every other."


def _within(value: float, interval: dict[str, float]) -> bool:
    return interval["low"] <= value <= interval["high"]


def of_new_candidates(runs: list[dict[str, Any]]) -> str:
    """Recall among candidates without a row."""
    body = [
        [
            run["set"],
            run["read"],
            f"{run['candidates']:.0f}",
            f"{run['recall']:.3f}",
            f"{run['chance']:.3f}",
            _listed(run["seeds"]),
        ]
        for run in runs
    ]
    return "\n\n".join(
        [
            "## New candidates",
            "`python benchmarks/quality/new_candidates.py SET`: a tenth of the candidates leave the training rows, and "
            "the recipe `features` ranks them among themselves for the queries that took some. With `--vectors` the "
            "candidate tower reads vectors of descriptions in place of their words and of its id, and the history has "
            "a table of its own. They are made of the texts alone, without a download: TF-IDF of words and of runs of "
            "3 to 5 characters, then SVD (`descriptions.py`).",
            _table(["set", "the candidate tower reads", "new candidates", "Recall@20", "chance", "seeds"], body),
        ]
    )


def of_inputs(run: dict[str, Any]) -> str:
    """What side features and context are worth."""
    name, metrics = run["set"], run["metrics"]
    sections = [
        f"## What inputs are worth: {name}",
        f"`python benchmarks/quality/inputs.py {name}{_data(name)}{_cut_short(run)}`, on the test; "
        + (
            f"mean of seeds {_listed(run['seeds'])}, ± half of what lies between the best and the worst."
            if len(run["seeds"]) > 1
            else f"seed {run['seeds'][0]} alone."
        ),
        run["compared"] + (f" Each trains for {run['epochs']} epochs, not the recipe's." if run["epochs"] else ""),
    ]
    for group in run["groups"]:
        first, *_ = group["rows"]
        body = []
        for row in group["rows"]:
            spread = [max(column) - min(column) for column in zip(*row["by_seed"], strict=True)]
            values = [
                f"{row['metrics'][metric]['value']:.4f}" + (f" ± {s / 2:.4f}" if len(run["seeds"]) > 1 else "")
                for metric, s in zip(metrics, spread, strict=True)
            ]
            apart = row["difference"]
            shown = [_with_interval(apart[metric], "+.4f") if apart else "" for metric in metrics]
            body.append([row["name"], *values, *shown, _time(row["seconds"])])
        head = ["", *map(_title, metrics), *(f"it − {first['name']}, {_title(metric)}" for metric in metrics), "time"]
        sections.append(_table(head, body))
    return "\n\n".join(sections)


def of_order(name: str, runs: dict[str, dict[str, Any]]) -> str:
    """What order is worth, on the test and on validation."""
    test = runs.get(f"sequences.{name}")
    sections = [
        f"## Order: {name}",
        f"`python benchmarks/quality/sequences.py {name}{_data(name)}`. Every model has the settings of the recipe "
        "`sequence` for this set, but for what its name says. Training items are left out of the ranking. Mean of the "
        "seeds ± half of what lies between the best and the worst. Time is that of training one model, several of them "
        "side by side, where it says so on a GPU.",
    ]
    if test is not None:
        best = test["rows"].get("recipe `sequence`")
        goals = [
            f"{_title(metric)} {value:.4f} (goal {goal:g}: {'reached' if value >= goal else 'not reached'})"
            for metric, value, goal in zip(test["metrics"], _means(best), test["goals"], strict=True)
        ]
        settings = [f"{name}: {row['setting']}." for name, row in test["rows"].items() if "setting" in row]
        sections += ["On the test:", _order_table(test), *settings, f"Recipe `sequence`: {', '.join(goals)}."]
    validation = runs.get(f"sequences.{name}.validation")
    if validation is not None:
        sections += ["On validation, with `--validation`:", _order_table(validation)]
    return "\n\n".join(sections)


def _order_table(run: dict[str, Any]) -> str:
    body = []
    for name, row in sorted(run["rows"].items(), key=lambda each: -_means(each[1])[0]):
        spread = [max(column) - min(column) for column in zip(*row["by_seed"], strict=True)]
        shown = [f"{v:.4f}" + (f" ± {s / 2:.4f}" if s else "") for v, s in zip(_means(row), spread, strict=True)]
        on = "" if row["device"] == "cpu" else ", GPU"
        body.append([name, *shown, _listed(row["seeds"]), _time(row["seconds"]) + on])
    return _table(["", *map(_title, run["metrics"]), "seeds", "time"], body)


def _means(row: dict[str, Any]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*row["by_seed"], strict=True)]


def of_warmth(run: dict[str, Any]) -> str:
    """The metrics of each slice, popularity's recall beside them."""
    beside = {each["name"]: each["metrics"]["recall@20"] for each in run["popularity"]}
    body = []
    for each in run["slices"]:
        found = each["metrics"]
        measured = [_with_interval(found["recall@20"]), _with_interval(found["ndcg@20"])]
        covered = f"{found['coverage@20']['value']:.4f}"
        counts = f"{each['queries']:,}", f"{each['targets']:,}"
        body.append(
            [
                each["rule"].replace(":", f" {each['name'].split()[1]}:"),
                *counts,
                *measured,
                covered,
                _with_interval(beside[each["name"]]),
            ]
        )
    return "\n\n".join(
        [
            f"## By warmth: {run['set']}",
            f"`python benchmarks/quality/warmth.py {run['set']}{_data(run['set'])}`: `evaluate(by='warmth')` of the "
            f"recipe `{run['recipe']}`, seed 0, at k = 20. A row of candidates has of each query the targets among "
            "them, ranked over the whole corpus; its coverage is the share of them that is recommended to anyone.",
            _table(["", "queries", "targets", "Recall@20", "NDCG@20", "coverage@20", "popularity's Recall@20"], body),
        ]
    )


def of_ablation(run: dict[str, Any]) -> str:
    """What each part is worth."""
    metrics = run["metrics"]
    seeds = max((row["seeds"] for row in run["rows"]), key=len)
    body = []
    for row in run["rows"]:
        name = row["name"] + ("" if row["seeds"] == seeds else f" (seed {_listed(row['seeds'])})")
        spread = [max(column) - min(column) for column in zip(*row["by_seed"], strict=True)]
        values = [f"{mean:.4f}" + (f" ± {s / 2:.4f}" if s else "") for mean, s in zip(row["mean"], spread, strict=True)]
        body.append([name, *values, f"{row['tail_recall']:.4f}", f"{row['seconds']:.0f} s"])
    return "\n\n".join(
        [
            f"## What each part is worth: {run['set']}",
            f"`python benchmarks/quality/ablation.py {run['set']}{_data(run['set'])}`, on validation; seeds "
            f"{_listed(seeds)}, ± half of what lies between the best and the worst.",
            _table(["", *map(_title, metrics), "tail", "time"], body),
        ]
    )


def _row(name: str, row: dict[str, Any], metrics: list[str]) -> list[str]:
    difference = row.get("ours_minus_it")
    apart = [_with_interval(difference[metric], "+.4f") if difference else "" for metric in metrics]
    setting = ", ".join(f"{key} {value:g}" for key, value in row["setting"].items())
    values = [f"{row['metrics'][metric]['value']:.4f}" for metric in metrics]
    return [name, *values, *apart, f"{row['tail_recall']:.4f}", _time(row["seconds"]), setting]


def _with_interval(found: dict[str, float], form: str = ".4f") -> str:
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def _title(metric: str) -> str:
    family, _, k = metric.partition("@")
    return f"{NAMES[family]}@{k}"


def _data(name: str) -> str:
    return "" if name.startswith("online-retail") else " --data DIR"


def _cut_short(run: dict[str, Any]) -> str:
    """Options that leave seeds, epochs or models out."""
    seeds = "" if len(run["seeds"]) > 1 else f" --seeds {run['seeds'][0]}"
    epochs = "" if run["epochs"] is None else f" --epochs {run['epochs']}"
    only = "" if run["only"] is None else f" --only {shlex.join(run['only'])}"
    return seeds + epochs + only


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))


def _table(head: list[str], body: list[list[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


if __name__ == "__main__":
    main()
