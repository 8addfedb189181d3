"""The retrieval task, declared: how a pair is scored and what it is trained against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from recs_core.contract.validation import Declared, is_finite, is_one_of, is_whole, require

Negatives: TypeAlias = Literal["in-batch", "uniform", "mixed", "corpus"]

NEGATIVES = ("in-batch", "uniform", "mixed", "corpus")


@dataclass(frozen=True)
class RetrievalSpec(Declared):
    """The retrieval task: how a pair is scored and what it is trained against (docs/meanings.md pins each).

    `scoring`: "cosine" or "dot". `temperature` divides the score; with `learn_temperature` it is where a learned
    one starts. `candidate_bias` adds a learned number per candidate. `negatives`: "in-batch", "uniform" (sampled from
    the corpus), "mixed" (both) or "corpus" (all of it); `num_negatives` is how many are sampled per step. `logq`:
    correct in-batch and mixed scores by − log q; "refined" leaves the positive uncorrected. `remove_accidental_hits`
    masks other columns that hold the target's candidate; `mask_positives` masks every known positive of the query.
    `hard_negatives` keeps the highest-scored n negatives of a row. `reduction`: "mean" is Σ w·ℓ / Σ w, "sum" Σ w·ℓ.
    """

    scoring: Literal["cosine", "dot"] = "cosine"
    temperature: float = 0.1
    learn_temperature: bool = False
    candidate_bias: bool = True
    negatives: Negatives = "in-batch"
    num_negatives: int | None = None
    logq: bool | Literal["refined"] = True
    remove_accidental_hits: bool = True
    mask_positives: bool = False
    hard_negatives: int | None = None
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_one_of(self.scoring, ("cosine", "dot")), self, f"scoring is 'cosine' or 'dot', got {self.scoring!r}")
        require(
            is_finite(self.temperature) and self.temperature > 0,
            self,
            f"needs temperature > 0, got {self.temperature!r}",
        )
        require(
            is_one_of(self.negatives, NEGATIVES),
            self,
            f"negatives is one of {', '.join(NEGATIVES)}, got {self.negatives!r}",
        )
        sampled = self.negatives in ("uniform", "mixed")
        require(
            is_whole(self.num_negatives, 1) if sampled else self.num_negatives is None,
            self,
            f"negatives={self.negatives!r} needs num_negatives {'≥ 1' if sampled else '= None'}, "
            f"got {self.num_negatives!r}",
        )
        known = isinstance(self.logq, bool) or is_one_of(self.logq, ("refined",))
        require(known, self, f"logq is True, False or 'refined', got {self.logq!r}")
        require(
            self.hard_negatives is None or is_whole(self.hard_negatives, 1),
            self,
            f"hard_negatives is a number ≥ 1 or None, got {self.hard_negatives!r}",
        )
        require(
            is_one_of(self.reduction, ("mean", "sum")), self, f"reduction is 'mean' or 'sum', got {self.reduction!r}"
        )
        for name in ("learn_temperature", "candidate_bias", "remove_accidental_hits", "mask_positives"):
            require(
                isinstance(getattr(self, name), bool), self, f"{name} is True or False, got {getattr(self, name)!r}"
            )

    @property
    def corrects(self) -> bool:
        """Whether the task needs `candidate_sampling_probability`."""
        return self.negatives == "uniform" or (self.negatives in ("in-batch", "mixed") and self.logq is not False)

    @property
    def masks_hits(self) -> bool:
        """Whether the task needs `candidate_ids` to mask accidental hits (a corpus holds no candidate twice)."""
        return self.remove_accidental_hits and self.negatives != "corpus"
