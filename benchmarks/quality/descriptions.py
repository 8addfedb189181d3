"""Vectors of descriptions without a download: TF-IDF of words and of characters, and its first directions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

CHARACTERS = (3, 4, 5)
RARE = 2
"""Texts that a gram must be in: one of a single text tells nothing of another."""


def vectors(texts: Sequence[str | None], dim: int, *, characters: bool = True) -> NDArray[np.float32]:
    """(n, dim): the left singular vectors of TF-IDF rows of length 1, times the singular values.

    `characters`: count runs of 3 to 5 characters too, not words alone.
    """
    grams = [_grams(text or "", characters) for text in texts]
    place = {gram: i for i, gram in enumerate(dict.fromkeys(gram for each in grams for gram in each))}
    rows = np.repeat(np.arange(len(grams)), [len(each) for each in grams])
    columns = [place[gram] for each in grams for gram in each]
    counts = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(grams), len(place)))
    counts.sum_duplicates()
    texts_of = np.bincount(counts.indices, minlength=len(place))
    counts = counts[:, texts_of >= RARE]
    counts.data = 1 + np.log(counts.data)
    weighted = counts @ sp.diags(1 + np.log((1 + len(grams)) / (1 + texts_of[texts_of >= RARE])))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    u, s, _ = svds((sp.diags(1 / np.maximum(length, 1e-12)) @ weighted).tocsr(), k=dim, random_state=0)
    return (u * s).astype(np.float32)


def _grams(text: str, characters: bool) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    if not characters:
        return words
    spelt = f" {' '.join(words)} "
    return words + [spelt[i : i + n] for n in CHARACTERS for i in range(len(spelt) - n + 1)]
