"""The tables of the report, as text cells: Markdown, HTML and the terminal all show these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recs_core.evaluation import shown
from recs_core.reference.backend import ORACLE

Report = dict[str, Any]
NOTHING = "–"

HEADLINE_METRICS = ("recall@20", "recall@10", "recall@5", "recall@1")
SHOWN_METRICS = ("recall@1", "recall@5", "recall@10", "recall@20", "ndcg@10", "ndcg@20", "hit_rate@10", "mrr",
                 "coverage@20", "popularity@20", "tail_recall@20")  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A caption, a line on how to read it, headers, and rows of as many cells."""

    title: str
    note: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(report: Report) -> list[Table]:
    """All tables but the recommendations, in the order of the report."""
    made = [agreement(report), metrics(report), losses(report), cost(report), what_each_is(report), where(report)]
    return [table for table in made if table.rows]


def finished(report: Report) -> list[dict[str, Any]]:
    """Rows of backends that have something to show."""
    return [row for row in report["backends"] if "losses" in row]


def failures(report: Report) -> list[tuple[str, str]]:
    """Name and reason of every backend that failed."""
    return [(row["name"], row["problem"]) for row in report["backends"] if row["problem"]]


def agreement(report: Report) -> Table:
    """Every pair."""
    k = shown_k(report)
    headers = ("pair", "verdict", "tier", "loss apart", f"overlap@{k}", "same lists", "rank correlation",
               "score apart", "up to a constant", "first parts")  # fmt: skip
    rows = [
        (
            f"{pair['first']} · {pair['second']}",
            "agree" if pair["agree"] else "differ",
            pair["tier"],
            f"{small(pair['loss_difference'])} in {pair['steps']:,} steps",
            fixed(pair["overlap"]),
            percent(pair["same_lists"]),
            fixed(pair["rank_correlation"], 6),
            small(pair["score_difference"]),
            small(pair["score_error"]),
            _parting(pair),
        )
        for pair in report["pairs"]
    ]
    note = (
        "Losses relative to the loss, or to 1 where it is smaller. Lists the same: up to swaps of near-ties. Rank "
        "correlation: Spearman, over the corpus, for the queries shown. Up to a constant: less what all scores of a "
        "query moved by, which a softmax cannot see. First parts: the first step looked at (1, 2, 3, 5, 10, …) at "
        "which a tensor differs by more than the tolerance."
    )
    return Table("Who agrees with whom", note, headers, rows)


def _parting(pair: dict[str, Any]) -> str:
    parting = pair["parting"]
    if parting is None:
        looked = pair["looked_at"]
        return f"never, up to step {looked[-1]:,}" if looked else NOTHING
    return f"step {parting['step']:,}, {parting['tensor']} ({parting['difference']:.0e} > {parting['tolerance']:.0e})"


def metrics(report: Report) -> Table:
    """Values with their intervals; popularity last."""
    columns = [(row["name"], row["metrics"]) for row in finished(report)]
    if report["oracle"].get("metrics"):
        columns.append((ORACLE, report["oracle"]["metrics"]))
    if report["popularity"]:
        columns.append(("popularity", report["popularity"]))
    names = [name for name in SHOWN_METRICS if columns and name in columns[0][1]]
    rows = [(name, *(shown(values[name]) for _, values in columns)) for name in names]
    note = (
        f"Exact, over the whole corpus, of {report['data']['evaluated_on']}; 95 % bootstrap intervals over queries; "
        "ties count against the model, and so does a target that training has, which no list can hold. Coverage: the "
        "share of the corpus that is recommended; popularity: the mean number of training rows of what is."
    )
    return Table("Metrics", note, ("", *(name for name, _ in columns)), rows)


def losses(report: Report) -> Table:
    """Mean loss per target, epoch by epoch, and the largest difference from the oracle over the steps it followed."""
    columns = [(row["name"], row["losses"]["epochs"]) for row in finished(report)]
    oracle = report["oracle"]
    if oracle["ok"] and oracle["steps"] == oracle["of"]:
        columns.append((ORACLE, oracle["losses"]["epochs"]))
    epochs = max((len(values) for _, values in columns), default=0)
    chosen = sorted({*range(min(epochs, 10)), *range(9, epochs, 10), epochs - 1} - {-1})
    rows = [[f"{e + 1}", *(f"{values[e]:.6f}" for _, values in columns)] for e in chosen]
    if rows and oracle["ok"]:
        apart = [small(row["oracle"]["loss"]) if row["oracle"] else NOTHING for row in finished(report)]
        rows.append(["apart from oracle", *apart, *([NOTHING] if len(columns) > len(apart) else [])])
    steps = f"{oracle['steps']} of {oracle['of']} steps" if oracle["ok"] else "no step"
    note = (
        f"Mean loss per target. The oracle, float64 by formula, followed {steps}; the last row is the largest relative "
        "difference over them."
    )
    return Table("Loss per epoch", note, ("epoch", *(name for name, _ in columns)), rows)


COST = (
    ("start-up: interpreter and core", "startup", "seconds"),
    ("import of the framework", "import", "seconds"),
    ("reading and splitting the data", "data", "seconds"),
    ("first epoch, with compilation", "first_epoch", "seconds"),
    ("epoch, median of the others", "epoch", "seconds"),
    ("training in all", "training", "seconds"),
    ("training rows per second", "rows_per_second", "number"),
    ("first evaluation, with compilation", "first_evaluation", "seconds"),
    ("evaluation, median", "evaluation", "seconds"),
    ("memory after import", "memory_imported", "bytes"),
    ("peak memory of the process", "memory_peak", "bytes"),
)


def cost(report: Report) -> Table:
    """Time, memory and sizes."""
    done = finished(report)
    show: dict[str, Callable[[float], str]] = {"seconds": seconds, "bytes": size, "number": "{:,.0f}".format}
    rows = [(label, *(show[kind](row["cost"][key]) for row in done)) for label, key, kind in COST]
    rows += [
        ("bundle", *(size(row["bundle"]["bytes"]) for row in done)),
        ("bundle with optimizer state", *(size(row["bundle"]["bytes_with_optimizer"]) for row in done)),
    ]
    machine = report["machine"]
    note = (
        f"Each backend alone on {machine['threads']} CPU{'s' if machine['threads'] > 1 else ''} of {machine['cpu']}, "
        "in a process of its own, from a cold start, OpenMP threads waiting passively."
    )
    return Table("What it costs", note, ("", *(row["name"] for row in done)), rows if done else [])


def what_each_is(report: Report) -> Table:
    """The aspects that the published report compares, from the run itself."""
    done, model = finished(report), report["model"]

    def all_alike(value: str) -> list[str]:
        return [value] * len(done)

    rows = [
        ("language", *(row["language"] for row in done)),
        ("versions", *(", ".join(f"{name} {v}" for name, v in row["versions"].items()) for row in done)),
        ("what it is", *(row["summary"] for row in done)),
        ("query tower", *all_alike(model["towers"]["query"])),
        ("candidate tower", *all_alike(model["towers"]["candidate"])),
        ("parameters", *(f"{row['parameters']:,}" for row in done)),
        ("training API", *(row["training_api"] for row in done)),
        ("loss", *all_alike(model["loss"])),
        ("optimizer", *all_alike(model["optimizer"])),
        ("recommendation", *all_alike(model["recommendation"])),
        ("the same again", *(reproducible(row) for row in done)),
        ("served by NumPy alone", *(_numpy(row, report) for row in done)),
    ]
    return Table("What each is", "As built and run here.", ("", *(row["name"] for row in done)), rows if done else [])


def reproducible(row: dict[str, Any]) -> str:
    """Whether two processes got the same bits."""
    found = row["reproducible"]
    if "problem" in found:
        return str(found["problem"])
    if found["bit_equal"]:
        return f"bit for bit, {found['steps']:,} steps in a second process"
    what = "losses" if not found["losses_equal"] else "weights"
    return f"no: {what} differ within {found['steps']:,} steps (loss by {found['loss_difference']:.1e})"


def _numpy(row: dict[str, Any], report: Report) -> str:
    bundle = row["bundle"]
    return (
        f"{bundle['numpy_same_lists']} of {report['data']['compared_queries']} lists identical, "
        f"scores within {small(bundle['numpy_score_difference'])}"
    )


def where(report: Report) -> Table:
    """What the numbers depend on."""
    machine, data, model = report["machine"], report["data"], report["model"]
    split = f"{data['training_rows']:,} to train" + (f", {data['test_rows']:,} to test" if data["test_rows"] else "")
    pairs = f"{data['queries']:,} {data['query']} × {data['candidates']:,} {data['candidate']}"
    load = "" if machine["load_average"] is None else f", load {machine['load_average']:.1f} after the run"
    rows = [
        ("data", f"{data['source']}: {pairs}; {split}"),
        ("run", f"{model['epochs']} epochs, {model['steps']:,} steps of {model['batch_size']} by {model['batch_by']}, "
                f"seed {model['seed']}, {model['dtype']}"),
        ("held to", f"{report['tier']['name']}: {report['tier']['why']}"),
        ("CPU", f"{machine['cpu']}, {machine['threads']} of {machine['cpus']} usable{load}"),
        ("system", f"{machine['platform']}, Python {machine['python']}, NumPy {machine['numpy']}"),
        ("recs-core", report["recs_core"]),
        ("made", report["created"]),
        ("command", report["command"]),
    ]  # fmt: skip
    return Table("Where the numbers are from", "", ("", ""), rows)


def recommendations(report: Report) -> list[Table]:
    """For each query shown: rank by rank, side by side."""
    made = []
    for asked in report["recommendations"]:
        lists = asked["lists"]
        depth = max((len(items) for items in lists.values()), default=0)
        rows = [
            [f"{i + 1}", *(item(items[i]) if i < len(items) else NOTHING for items in lists.values())]
            for i in range(depth)
        ]
        made.append(Table(f"{report['data']['query']} {asked['query']}", "", ("", *lists), rows))
    return made


def item(found: dict[str, Any]) -> str:
    """Name or id, score, and a mark if the query took it in the data it is evaluated on."""
    return f"{found['name'] or found['id']} ({found['score']:.3f}){' ✓' if found['hit'] else ''}"


def shown_k(report: Report) -> int:
    """The length of the lists shown."""
    return int(report["k"])


def seconds(value: float) -> str:
    """1.2 s, 12 ms."""
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.1f} ms"


def size(value: float) -> str:
    """12 kB, 3.4 MB, 812 MB."""
    if value >= 1e9:
        return f"{value / 1e9:.2f} GB"
    return f"{value / 1e6:.{0 if value >= 1e8 else 1}f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"


def small(value: float | None) -> str:
    """A difference: 1.2e-07, or 0."""
    return NOTHING if value is None else "0" if value == 0 else f"{value:.1e}"


def fixed(value: float | None, digits: int = 3) -> str:
    """A share or a correlation."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return NOTHING if value is None else f"{100 * value:.1f} %".replace(".0 %", " %")
