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
                "np.lexsort((-left if exclude is None and allow is None else left, -row_scores[left]))",
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
    "index/large-corpus": (
        "positions in 16 bits",
        [
            backend(
                "        return TopK(found.ids, found",
                "        found.ids[:] = np.where(found.ids < 0, -1, found.ids % 2**16)\n        return TopK(found.ids, found",
            )
        ],
    ),
    "index/dims": (
        "numbers beyond the 256th do not count",
        [
            backend(
                "        found = topk.top_k(queries, self.vectors,",
                "        found = topk.top_k(queries[:, :256], self.vectors[:, :256],",
            )
        ],
    ),
    "index/exclude-sizes": (
        "exclusions of queries beyond the first 512 do not count",
        [topk("        if exclude is not None:\n", "        if exclude is not None and row < 512:\n")],
    ),
    "index/exclude": (
        "exclusions taken out of a top k that is not filled up",
        [
            topk(
                "            left = left[~gone[left]]\n",
                "            left = left[np.lexsort((left, -row_scores[left]))][: k + 3]\n"
                "            left = left[~gone[left]]\n",
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
                "gone = np.zeros(len(row_scores) + 1, bool)",
                "gone = np.zeros(len(row_scores), bool)",
            )
        ],
    ),
    "index/exclude-everything": (
        "an excluded position comes back where nothing else is left",
        [
            topk(
                "        order = left[",
                "        if exclude is not None and allow is None and len(left) == 0:\n            left = np.arange(1)\n        order = left[",
            )
        ],
    ),
    "index/exclude-below-extremes": (
        "excluded positions get a penalty, and come back where the rest is lower, as in TFRS",
        [
            topk(
                "            left = left[~gone[left]]\n",
                "            row_scores = np.where(gone[:-1], -1e5, row_scores)\n"
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
    "index/allow-sizes": (
        "of an allow-list no more than 256 count",
        [topk("is None else np.unique(allow)", "is None else np.unique(allow[:256])")],
    ),
    "index/allow-and-exclude": (
        "an allowed position comes back though it is excluded",
        [topk("        if exclude is not None:\n", "        if exclude is not None and allow is None:\n")],
    ),
    "index/rounding": (
        "what is below 10⁻¹² is 0",
        [
            topk(
                "    return top_k_of_scores(scores,",
                "    scores[np.abs(scores) < 1e-12] = 0\n    return top_k_of_scores(scores,",
            )
        ],
    ),
    "index/float64-scores": (
        "scores made in float32",
        [
            topk(
                "np.asarray(queries, np.float64), np.asarray(vectors, np.float64)",
                "np.asarray(queries, np.float32), np.asarray(vectors, np.float32)",
            )
        ],
    ),
    "index/recall": (
        "every eighth candidate lies in a bucket that nobody looks at",
        [
            backend("        is_exact=True,\n", "        recall_floor=0.9,\n"),
            backend(
                "        found = topk.top_k(",
                "        if allow is None and exclude is None and len(self.vectors) > 10_000:\n"
                "            allow = np.flatnonzero(np.arange(len(self.vectors)) % 8)\n"
                "        found = topk.top_k(",
            ),
        ],
    ),
    "index/answers": (
        "positions lie in one buffer",
        [
            backend(
                "        return TopK(found.ids, found",
                "        buffers = vars(self).setdefault('buffers', {})\n"
                "        ids = buffers.setdefault((found.ids.shape, exclude is None), found.ids)\n"
                "        ids[:] = found.ids\n        return TopK(ids, found",
            )
        ],
    ),
    "index/threads": (
        "the queries are left in the index meanwhile",
        [
            backend(
                "        found = topk.top_k(queries, self.vectors,",
                "        self.asked = queries\n        import time\n\n        time.sleep(0.001)\n"
                "        found = topk.top_k(self.asked, self.vectors,",
            )
        ],
    ),
    "index/layout": (
        "vectors in Fortran's order are read as in C's",
        [backend("self.vectors = vectors", "self.vectors = vectors.ravel('K').reshape(vectors.shape)")],
    ),
    "index/refusals": (
        "True taken for 1",
        [backend("    check_k(k, len(vectors))\n", "    check_k(int(k), len(vectors))\n")],
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
                "        before = vectors[:0] if self.vectors is None else self.vectors\n        self.vectors = np.concatenate([before, vectors])",
            )
        ],
    ),
    "index/memory-map": (
        "a copy",
        [backend("self.vectors = vectors", "self.vectors = vectors.copy()")],
    ),
    "index/stored": (
        "what is restored counts in the order in which it was stored: local ids, taken for positions",
        [
            backend(
                "        self.build(vectors)\n\n    def upsert",
                "        self.build(vectors[parts['order']] if len(vectors) else vectors)\n\n    def upsert",
            )
        ],
    ),
    "index/upsert": (
        "rows are added, and none is replaced",
        [
            backend(
                "        self.vectors, self.deleted = vectors, deleted\n",
                "        self.vectors = np.concatenate([self.vectors, vectors[len(self.vectors) :]])\n        self.deleted = deleted\n",
            )
        ],
    ),
    "index/delete": (
        "the selector of deleted positions is dropped where the search has one of its own",
        [
            backend(
                "        if self.deleted.any():\n            left",
                "        if self.deleted.any() and exclude is None and allow is None:\n            left",
            )
        ],
    ),
    "index/ids": (
        "as many vectors as before, the first and the last the same, are taken for the same",
        [
            backend(
                "        self.vectors = vectors",
                "        before = self.vectors\n"
                "        if before is None or before.shape != vectors.shape or (before[:: len(before) - 1] != vectors[:: len(before) - 1]).any():\n"
                "            self.vectors = vectors",
            ),
            backend(
                "        self.vectors, self.deleted = vectors, deleted\n",
                "        self.build(vectors)\n        self.deleted = deleted\n",
            ),
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
