"""Starting workers, listening to them, and ending them all when the parent ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.compare.job import ARRAYS, RESULT, Job

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)

SECONDS_TO_END = 5.0
"""What a worker gets between being asked to end and being killed."""

Listener = Callable[[Job, dict[str, Any]], None]


@dataclass(frozen=True)
class Answer:
    """What came of a job: its result and arrays, or a line that says why there are none (`problem`).

    `startup`: seconds from starting the process to its first line.
    """

    job: Job
    result: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    startup: float
    problem: str | None = None

    @property
    def losses(self) -> NDArray[np.float64]:
        """(steps,): the loss of each step."""
        return np.asarray(self.arrays["losses"], np.float64)

    def weights(self, step: int) -> dict[str, NDArray[Any]]:
        """The weights kept after a step; none if none were."""
        prefix = f"weights/{step}/"
        return {name.removeprefix(prefix): value for name, value in self.arrays.items() if name.startswith(prefix)}

    @property
    def steps_kept(self) -> list[int]:
        """Steps after which weights were kept, ascending."""
        return sorted({int(name.split("/")[1]) for name in self.arrays if name.startswith("weights/")})


class Workers:
    """Processes of this comparison. Leaving the `with` block, by Ctrl-C too, leaves none of them behind."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, jobs: Sequence[Job], at_once: int = 1) -> list[Answer]:
        """Do the jobs, `at_once` of them side by side; answers in the order of the jobs."""
        with _terminating(), ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(self._run, job) for job in jobs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self.end()  # the pool waits for its threads, and they wait for their processes
                raise

    def end(self) -> None:
        """End every running process, with its children, and start no other."""
        with self._lock:
            self._ended = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_END
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
                process.wait()

    def _run(self, job: Job) -> Answer:
        command = [sys.executable, "-m", "recs_core.compare.worker", str(job.write())]
        start, startup = time.perf_counter(), 0.0
        with Path(job.log).open("w", encoding="utf-8") as log:
            with self._lock:
                if self._ended:
                    return Answer(job, {}, {}, 0.0, "not started")
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=_environment(job.threads),
                    start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the worker and its children
                )
                self._running.add(process)
            assert process.stdout is not None
            with process, contextlib.suppress(ValueError):  # a line cut off by a kill is no JSON
                for line in process.stdout:
                    startup = startup or time.perf_counter() - start
                    self._listener(job, json.loads(line))
        with self._lock:
            self._running.discard(process)
        answer = _answer(job, process.returncode, startup)
        self._listener(job, {"stage": "failed" if answer.problem else "done", "problem": answer.problem})
        return answer


def _answer(job: Job, code: int, startup: float) -> Answer:
    folder = Path(job.folder)
    result: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    if code == 0 and result.get("ok"):
        with np.load(folder / ARRAYS) as arrays:
            return Answer(job, result, dict(arrays), startup)
    return Answer(job, result, {}, startup, result.get("problem") or how_it_ended(code, Path(job.log)))


def how_it_ended(code: int, log: Path) -> str:
    """One line on a process that left no result: the signal, or the last line it wrote."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        why = ", most often for want of memory: try --quick, or fewer rows" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{why}; see {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    said = f": {' '.join(lines[-1].split())[:300]}" if lines else ""
    return f"its process ended with code {code}{said}; see {log}, and try `recs doctor`"


def _environment(threads: int) -> dict[str, str]:
    """The caller's environment, with as many threads for everyone.

    Threads wait passively: where CPUs are shared, spinning ones measure the neighbours (2 CPUs at a load of 11, ten
    small epochs in PyTorch: 9.0 s spinning, 0.4 s passive).
    """
    defaults = {"TF_CPP_MIN_LOG_LEVEL": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**defaults, **os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def _signal(process: subprocess.Popen[str], number: int) -> None:
    """To the worker and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.terminate()


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """Within the block, being asked to end (SIGTERM) ends the workers as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
