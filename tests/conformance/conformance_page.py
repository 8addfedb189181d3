"""docs/conformance.md, made from the checks and their biters; run as a program, this file writes it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from biters import BITERS

from recs_core.conformance.registry import TIERS
from recs_core.conformance.runner import CHECKS, MEANING_OF_STATUS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
SCORE = Path(__file__).parent / "mutation_score.txt"

HEAD = """\
# Conformance

<!-- Made by tests/conformance/conformance_page.py from the checks themselves; do not edit. -->

The suite that says whether a backend or an index means what the core means ([meanings.md](meanings.md)). It is part of
the package. Three doors to the same checks:

```sh
recs check mine                                                # an index: recs check mine --index
pytest --pyargs recs_core.conformance --recs-backend mine      # an index: --recs-index mine
```

```python
from recs_core.conformance import RetrievalConformance# an index: IndexConformance, index = …

class TestMine(RetrievalConformance):
    backend = "mine"
    expected_failures = {"task/hard-negatives": "ties are broken otherwise, issue 12"}
```

pytest and hypothesis come with `pip install "recs-core[conformance]"`; `recs check` needs neither.

- The judge is `recs_core.reference`, an oracle in float64 NumPy that shares no code with what it judges.
- A check that fails shows what was expected, what came, the formula, and what to look at.
- A check rests on others: where one of them fails it is not judged, so that one mistake makes one failure. Read the
  first that failed: with each of the wrong implementations of tests/conformance it is the one about the mistake, and at
  most three fail.
- An approximate index is measured: its recall@10 stands in the report, as text and as JSON, and is a failure below the
  `recall_floor` of its manifest ([write-an-index.md](write-an-index.md)).
- A capability that a manifest declines, `No("reason")`, is checked to be refused, whatever else fails: the call must
  raise `UnsupportedFeature` with that reason. What no call could refuse (`sparse_rows`, `memory_map`,
  `float64_scores`), and methods that an index need not have (`storable`, `updatable`), are skipped. The required tier
  allows no `No`.
- The other backend of the journeys, which loads what was saved here and saves what is loaded here, is the oracle.
- An expected failure is strict and has a reason: a check that is listed and does not fail is a failure. An unknown
  name is an error, and a run that judged nothing is red.
- Every check can fail: tests/conformance holds a wrong implementation for each, named in the last column.
- Names are stable. A new required check comes with a new minor version of recs-core.

"""


def page() -> str:
    """The page's text."""
    parts = [HEAD, "## Outcomes\n", "| outcome | meaning |", "|---|---|"]
    parts += [f"| {status} | {meaning} |" for status, meaning in MEANING_OF_STATUS.items()]
    parts += ["\n## Tiers\n", "| tier | meaning | checks |", "|---|---|---|"]
    for tier, meaning in TIERS.items():
        parts.append(f"| {tier} | {meaning} | {sum(c.tier == tier for c in CHECKS.values())} |")
    parts += ["\n## Tolerances\n", TOLERANCES]
    parts += ["\n## Mutants\n", MUTANTS, f"```text\n{SCORE.read_text(encoding='utf-8').strip()}\n```"]
    for subject in ("backend", "index"):
        parts += [f"\n## Checks of {'a backend' if subject == 'backend' else 'an index'}\n"]
        parts += ["| check | tier | meaning | formula | needs | caught, among others |", "|---|---|---|---|---|---|"]
        for c in CHECKS.values():
            if c.subject == subject:
                needs = ", ".join(f"`{name}`" for name in c.needs)
                cells = (f"`{c.name}`", c.tier, c.meaning, c.formula, needs, BITERS[c.name][0])
                parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


MUTANTS = """\
Every check can fail; what no check sees is shown by mutants: correct backends and indexes with one fault each, made by
rule (a term dropped, two things swapped, an index off by one, a number narrowed, a size limited, a value kept too long,
memory shared). `python tests/conformance/mutants.py` runs the suite on each, counts what each tier kills and names what
survives. Survivors that nobody could tell from outside stand in `tests/conformance/equivalent_mutants.py`, by the
reason; "killed" is the share of all others. With `--score tests/conformance/mutation_score.txt` it wrote this:
"""

TOLERANCES = """\
| what | float64 | float32 | why |
|---|---|---|---|
| loss of a step | 1e-9 | 1e-6 | relative to the loss, or to 1: what is left of 16 or 7 digits after a long sum |
| gradient | 1e-9 | 1e-5 | of each row's norm, and a tenth of that of the largest row's, for rows whose terms cancel |
| weights and state after a step | 1e-7 | 2e-6 | absolute, on weights of size 1: a rounding, and the step's own error |
| tower outputs | 1e-10 | 1e-6 | absolute, on outputs of size 1 |
| 100 steps | 1e-9, 1e-7 | 1e-5 | losses and weights; in float32 the losses of a smooth model |
| as many steps of several workers | 1e-12, 1e-10 | 1e-5 | losses and weights, beside one process of the same backend |
| losses of a run of `fit` | 1e-9 | 1e-5 | as 100 steps: the model is smooth |
| the same with `precision="bf16"` | | 2e-2 | towers in 8 bits, all else in float32 |
| scores of an index | | (d + 4) · 2⁻²⁴ | of Σ of the products' sizes; 0 on whole numbers and with `float64_scores` |
| scores of another's weights | | 4e-6 | absolute, on scores of 2 at most; lists may differ where scores are as close |
| resume, determinism, untouched rows, weights from a file | 0 | 0 | bit for bit |

Gradients are read from a step of `SGD` at a rate of 10⁵, which is plain gradient descent: a backend needs no door for
them."""

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
