"""Biters of checks/index.py."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend, topk

BITERS = {
    "index/top-k": ("one too few", [topk("[:k]  # by the last key first", "[: k - 1]  # by the last key first")]),
    "index/types": (
        "int32 positions",
        [backend("        return TopK(found.ids, found", "        return TopK(found.ids.astype(np.int32), found")],
    ),
    "index/many-queries": (
        "queries beyond the first block get its last list",
        [
            backend(
                "        return TopK(found.ids, found",
                "        found.ids[512:], found.scores[512:] = found.ids[511:512], found.scores[511:512]\n"
                "        return TopK(found.ids, found",
            )
        ],
    ),
    "index/ties": (
        "reversed ties",
        [
            topk(
                "np.lexsort((left, -row_scores[left]))",
                "np.lexsort((-left if exclude is None else left, -row_scores[left]))",
            )
        ],
    ),
    "index/k-beyond-corpus": (
        "columns of padding",
        [
            topk(
                "    k = min(k, scores.shape[1])\n",
                "    k = min(k, scores.shape[1] + (exclude is None and allow is None))\n",
            )
        ],
    ),
    "index/exclude": (
        "exclusions taken out of a top k that is not filled up",
        [
            topk(
                "            left = np.setdiff1d(left, exclude.values",
                "            left = left[np.lexsort((left, -row_scores[left]))][: k + 3]\n"
                "            left = np.setdiff1d(left, exclude.values",
            )
        ],
    ),
    "index/exclude-ties": (
        "exclusion by score",
        [
            topk(
                "        order = left[",
                "        if exclude is not None:\n"
                "            gone = row_scores[exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]]]\n"
                "            left = left[~np.isin(row_scores[left], gone)]\n"
                "        order = left[",
            )
        ],
    ),
    "index/exclude-unknown": (
        "−1 taken for the last position",
        [
            topk(
                "np.setdiff1d(left, exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]])",
                "np.setdiff1d(left, exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]] % len(scores[0]))",
            )
        ],
    ),
    "index/exclude-everything": (
        "an excluded position comes back where nothing else is left",
        [
            topk(
                "        order = left[",
                "        if exclude is not None and len(left) == 0:\n            left = np.arange(1)\n        order = left[",
            )
        ],
    ),
    "index/exclude-below-extremes": (
        "excluded positions get a penalty, and come back where the rest is lower, as in TFRS",
        [
            topk(
                "            left = np.setdiff1d(left, exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]])\n",
                "            gone = exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]]\n"
                "            row_scores = row_scores.copy()\n            row_scores[gone] = -1e5\n"
                "            left = left[row_scores[left] != -1e5] if row_scores.min() > -1e29 else left\n",
            )
        ],
    ),
    "index/allow": (
        "places in the list for positions",
        [
            topk(
                "np.arange(len(row_scores)) if allow is None else np.unique(allow)",
                "np.arange(len(row_scores) if allow is None or exclude is not None else len(allow))\n        if exclude is not None and allow is not None:\n            left = np.unique(allow)",
            )
        ],
    ),
    "index/allow-and-exclude": (
        "an allowed position comes back though it is excluded",
        [topk("        if exclude is not None:\n", "        if exclude is not None and allow is None:\n")],
    ),
    "index/extreme-scores": (
        "a sentinel of −1e30, below which nothing is ordered",
        [
            topk(
                "np.lexsort((left, -row_scores[left]))",
                "np.lexsort((left, -np.maximum(row_scores[left], -np.inf if exclude is not None else -1e30)))",
            )
        ],
    ),
    "index/rebuild": (
        "a second build adds to the first",
        [
            backend(
                "        self.vectors = vectors",
                "        before = getattr(self, 'vectors', vectors[:0])\n        self.vectors = np.concatenate([before, vectors])",
            )
        ],
    ),
    "index/memory-map": (
        "a copy",
        [backend("self.vectors = vectors", "self.vectors = vectors.copy()")],
    ),
    "index/ids": (
        "as many vectors as before are taken for the same",
        [
            backend(
                "        self.vectors = vectors",
                "        if getattr(self, 'vectors', vectors[:0]).shape != vectors.shape:\n            self.vectors = vectors",
            )
        ],
    ),
    "index/inputs-stay": (
        "what was excluded once stays excluded",
        [
            backend(
                "        found = topk.top_k(",
                "        if exclude is None and allow is None:\n            exclude = getattr(self, 'gone', None)\n"
                "        self.gone = exclude\n        found = topk.top_k(",
            )
        ],
    ),
}
