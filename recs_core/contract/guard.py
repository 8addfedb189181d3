"""Threads and forked processes: one thread at a time at a model's arrays, and no framework where its threads are not.

A fork copies a process with the one thread that forked. JAX and TensorFlow work in threads of their own, and wait for
ever for those that a child lacks. torch's OpenMP does so too, unless the child keeps to one thread.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from recs_core.contract.errors import UnsupportedFeature


def _jax_has_started(bridge: Any) -> bool:
    return bool(bridge.backends_are_initialized())


def _tensorflow_has_started(context: Any) -> bool:
    current = context.context_safe()
    return current is not None and current._context_handle is not None


_STARTED: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "jax": ("jax._src.xla_bridge", _jax_has_started),
    "tensorflow": ("tensorflow.python.eager.context", _tensorflow_has_started),
}
"""Frameworks that do not survive a fork → the module that knows whether one has started, and how to ask it."""

_used: set[str] = set()
"""Frameworks that a model of ours has used in this process."""

_inherited: set[str] = set()
"""Those of `_STARTED` that had started when this process was forked."""


def _note_fork() -> None:
    if "torch" in _used:
        sys.modules["torch"].set_num_threads(1)  # as torch's own DataLoader does in its workers
    for framework, (module, has_started) in _STARTED.items():
        known = sys.modules.get(module)
        try:
            started = framework in _used or (known is not None and has_started(known))
        except AttributeError:  # another version's module: what we used ourselves is still known
            continue
        if started:
            _inherited.add(framework)


os.register_at_fork(after_in_child=_note_fork)


def use(framework: str, asked_by: str) -> None:
    """To be called before a framework works. Raises `UnsupportedFeature` where it would hang: where it had started
    before this process was forked. In a child of this process, torch will keep to one thread. `asked_by`: who is named.
    """
    if framework in _inherited:
        raise UnsupportedFeature(
            f"{asked_by} cannot work in this forked process: {framework} was started in its parent, and its threads "
            "did not come along; start processes with multiprocessing.get_context('spawn'), or serve the saved model "
            "with recs.load(path, runtime='numpy')"
        )
    _used.add(framework)


class Guard:
    """Held while a model's arrays are read or written: `with guard: …`. The same thread may take it again.

    So nobody reads a row that a step in another thread is writing, or an array that it has given away. `framework`,
    `asked_by`: as of `use`, which making and taking a guard call.
    """

    def __init__(self, framework: str, asked_by: str) -> None:
        self._framework, self._asked_by = framework, asked_by
        use(framework, asked_by)
        self._renew()

    def check(self) -> None:
        """Raise as `use`."""
        use(self._framework, self._asked_by)

    def __enter__(self) -> None:
        self.check()
        if self._process != os.getpid():
            self._renew()  # a thread that holds it in the parent does not exist here
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()
