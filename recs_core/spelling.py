"""What a backend's name, misspelt, was meant to be. It only goes into errors: nothing is ever chosen by it."""

from __future__ import annotations

import difflib
import re

_FRAMEWORKS = {
    "flax": "jax",
    "jax": "jax",
    "pytorch": "torch",
    "tensorflow": "tensorflow",
    "tf": "tensorflow",
    "tfrs": "tensorflow",
    "torch": "torch",
    "torchrs": "torch",
}
"""What people call a framework → the engine of keras that it is."""

_OURS = {
    "faiss": "recs-core-faiss",
    "qdrant": "recs-core-qdrant",
    "tensorflow": "recs-core-tensorflow",
    "tfrs": "recs-core-tensorflow",
    "torch": "recs-core-torch",
}
"""What the names of our own plugins begin with → the distribution that provides them."""

_WORDS = (*_FRAMEWORKS, "keras")
_CUTOFF = 0.75


def distribution_of(name: str) -> str | None:
    """Our distribution that provides a backend or an index of that name; None where another's would."""
    return _OURS.get(name.partition("[")[0].partition("-")[0])


def meant_engine(text: str) -> str | None:
    """The engine that a misspelt one names, as in "PyTorch" → "torch"; None where it names none, or several."""
    engines = {_FRAMEWORKS[word] for word in _words(text) if word in _FRAMEWORKS}
    return engines.pop() if len(engines) == 1 else None


def meant_backend(text: str) -> str | None:
    """The backend that a misspelt name means, as in "jax" → "keras[jax]", "TF" → "tensorflow"; None where unclear.

    JAX has no backend of its own: keras trains on it.
    """
    engine = meant_engine(text)
    if "keras" in _words(text):
        return "keras" if engine is None else f"keras[{engine}]"
    return "keras[jax]" if engine == "jax" else engine


def _words(text: str) -> list[str]:
    """The words of a name, lower-case, each the one of ours that it is closest to; versions and signs are left out."""
    found = []
    for word in re.findall("[a-z]+", text.lower()):
        found += [word] if word in _WORDS else difflib.get_close_matches(word, _WORDS, n=1, cutoff=_CUTOFF)
    return found


__all__ = ["meant_backend", "meant_engine"]
