"""The measure of the suite: mutants of correct backends and indexes, and how many it kills.

    python tests/conformance/mutants.py [--subject backends|indexes] [--only TEXT] [--per-rule N] [--json FILE]

The biters show that every check can fail; this shows what no check sees. A mutant that survives and is not in
`equivalent_mutants.py` is a check that is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from equivalent_mutants import EQUIVALENT
from mutating.making import mutants
from mutating.running import Verdict, verdict, warmed
from mutating.subjects import EXAMPLE

COLUMNS = ("required", "optional", "survived", "equivalent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the mutants asked for; 1 where one survives that is no equivalent, or an equivalent is no mutant."""
    asked = _parser().parse_args(arguments)
    sys.path.insert(0, str(EXAMPLE))
    start = time.perf_counter()
    verdicts: list[Verdict] = []
    known: set[str] = set()
    for kind in [asked.subject] if asked.subject else ["backends", "indexes"]:
        seen = warmed(kind)
        known |= {m.name for m in mutants(kind, seen, per_rule=None)}
        made = mutants(kind, seen, per_rule=asked.per_rule or None, seed=asked.seed)
        wanted = [m for m in made if asked.only in m.name]
        if asked.list:
            sys.stdout.writelines(f"{m.name}\n" for m in wanted)
            continue
        judged = []
        for mutant in wanted:
            found = verdict(mutant, asked.limit)
            judged.append(found)
            if asked.verbose or (found.status == "survived" and found.mutant not in EQUIVALENT):
                sys.stdout.write(f"{found.status:<9} {found.seconds:5.1f} s  {found.mutant}  {found.by}\n")
                sys.stdout.flush()
        sys.stdout.write(f"\n{kind}\n{table(judged)}\n")
        verdicts += judged
    if asked.score:
        Path(asked.score).write_text(score(verdicts), encoding="utf-8")
    if asked.json:
        Path(asked.json).write_text(json.dumps([asdict(v) | {"counted": counted(v)} for v in verdicts], indent=1))
    gone = [] if asked.subject else sorted(set(EQUIVALENT) - known)
    sys.stdout.writelines(f"equivalent_mutants.py names what is no mutant: {name}\n" for name in gone)
    sys.stdout.write(f"{time.perf_counter() - start:.0f} s\n")
    return int(bool(gone) or any(counted(v) == "survived" for v in verdicts))


def counted(verdict: Verdict) -> str:
    """The column that a verdict counts in: one of `COLUMNS`, or "void"."""
    return "equivalent" if verdict.status == "survived" and verdict.mutant in EQUIVALENT else verdict.status


def score(verdicts: list[Verdict]) -> str:
    """A table for each subject, and the mutants that survived, for docs/conformance.md."""
    parts = []
    for kind in ("backends", "indexes"):
        its = [v for v in verdicts if v.subject == kind]
        alive = [f"  {v.mutant}" for v in its if counted(v) == "survived"]
        parts += [kind, table(its), "", *(["survived:", *alive, ""] if alive else [])]
    return "\n".join(parts)


def table(verdicts: list[Verdict]) -> str:
    """A line per rule and one for all of them: who killed how many, and the share killed of those that are faults."""
    lines = [f"{'rule':<12}{'mutants':>9}" + "".join(f"{name:>12}" for name in COLUMNS) + f"{'killed':>9}"]
    rules = [*dict.fromkeys(v.rule for v in verdicts), ""]
    for rule in rules:
        counts = Counter(counted(v) for v in verdicts if rule in ("", v.rule))
        total = sum(counts[name] for name in COLUMNS)
        faults = total - counts["equivalent"]
        share = f"{(counts['required'] + counts['optional']) / faults:.1%}" if faults else "–"
        lines.append(f"{rule or 'all':<12}{total:>9}" + "".join(f"{counts[n]:>12}" for n in COLUMNS) + f"{share:>9}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subject", choices=("backends", "indexes"), help="default: both")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants with this in their name")
    parser.add_argument("--per-rule", type=int, default=30, metavar="N", help="how many of each rule on source; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="which of them")
    parser.add_argument("--limit", type=float, default=60, metavar="SECONDS", help="of the processor for one mutant")
    parser.add_argument("--json", metavar="FILE", help="where every verdict is written")
    parser.add_argument("--score", metavar="FILE", help="where the tables are written, for docs/conformance.md")
    parser.add_argument("--list", action="store_true", help="names only")
    parser.add_argument("--verbose", action="store_true", help="a line for every mutant, not only for survivors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
