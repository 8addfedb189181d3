"""`recs serve`: a bundle behind an address."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a run's checkpoint.")],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes, which share the bundle's memory map.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a search, in each worker.")] = 1,
    beside: Annotated[Path | None, typer.Option(help="A second bundle, for the page to compare with.")] = None,
    index: Annotated[
        str | None, typer.Option(help="The index to search with, by default the bundle's own; see `recs backends`.")
    ] = None,
    unknown: Annotated[str, typer.Option(help="Queries never seen: oov, popular or error.")] = "oov",
    waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait; one more is told 429.")] = 512,
    deadline: Annotated[float, typer.Option(help="Seconds that a request may wait.")] = 5.0,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 2 * 1024 * 1024,
    linger: Annotated[float, typer.Option(help="Seconds that SIGTERM leaves to whoever asks /readyz.")] = 0.0,
    drain: Annotated[float, typer.Option(help="Seconds that requests may take after that.")] = 30.0,
    admin: Annotated[bool, typer.Option("--admin", help="Answer /admin/reload too.")] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="The page at /.")] = True,
    log_requests: Annotated[bool, typer.Option("--log/--no-log", help="A line of JSON for each request.")] = True,
    log_answers: Annotated[
        bool, typer.Option("--log-answers", help="With what was recommended, for recs monitor.")
    ] = False,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Answer without a key, whoever asks by whatever name.")
    ] = False,
) -> None:
    """Serve a bundle over HTTP, with a page at /. RECS_API_KEY: what every request must bring.

    SIGHUP verifies what lies at the bundle's path then and serves it; SIGTERM ends once all that was asked is answered.
    """
    import os

    from recs_core.bundle import info
    from recs_core.service import Settings, need_extra

    need_extra()
    from recs_core.service.auth import VARIABLE, check_host, is_loopback
    from recs_core.service.server import Address, run

    key = os.environ.get(VARIABLE) or None
    check_host(host, key, no_auth)
    for path in filter(None, (bundle, beside)):
        info(path)
    if index is not None:
        from recs_core.plugin.manager import load_index

        load_index(index, asked_by="recs serve --index")
    settings = Settings(
        bundle=str(bundle),
        beside=None if beside is None else str(beside),
        index=index,
        unknown=unknown,  # type: ignore[arg-type]
        api_key=key,
        local=key is None and not no_auth and is_loopback(host),
        admin=admin,
        page=page,
        waiting=waiting,
        deadline=deadline,
        max_body=max_body,
        log_requests=log_requests,
        log_answers=log_answers,
    )
    run(settings, Address(host, port, workers, threads, linger, drain))
