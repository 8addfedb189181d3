"""Who may ask: those with the key, compared in constant time; and where a service may listen without one."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache

from recs_core.contract.errors import ConfigError
from recs_core.service.problems import Problem

VARIABLE = "RECS_API_KEY"


def check(headers: Mapping[str, str], key: str | None) -> None:
    """Raise `Problem` 401 unless the request brings the key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""
    if key is None:
        return
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    brought = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if not hmac.compare_digest(brought.encode(), key.encode()):
        raise Problem(401, "Unauthorized", "bring the key: Authorization: Bearer KEY, or X-API-Key: KEY")


def check_host(host: str, key: str | None, no_auth: bool) -> None:
    """Raise `ConfigError` for an address beyond this machine without a key, unless that is said aloud."""
    if key is not None and no_auth:
        raise ConfigError(f"--no-auth and {VARIABLE} contradict each other; leave out one of the two")
    if key is None and not no_auth and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines ask: set {VARIABLE} to a long random key, or say --no-auth"
        )


def names_this_machine(host: str) -> bool:
    """Whether a request's `Host` is an address of loopback, or "localhost".

    Another name may be that of a site whose page is open in a browser here, and which points to this machine so that
    the page may read what it answers.
    """
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    return is_loopback(name.strip("[]"))


@lru_cache(64)  # asked for the same `Host` again and again
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
