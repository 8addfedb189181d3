"""A step of two workers over a network of so many bits a second, beside what docs/scale.md predicts. Needs root, Linux.

    sudo python benchmarks/network.py [--rate 1gbit] [--delay 1ms] [--batch 8192]

Two namespaces of the network, joined by a pair of interfaces that let so much through (tc, token buckets), with a
worker of workers.py in each. Predicted: the step over interfaces without a limit, and the bytes that each worker sends,
which go both ways at once, at the rate. `--delay` needs a kernel with netem; without it the delay is the machine's own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAMES = ("recs0", "recs1")
ADDRESS = "10.213.0."
UNITS = {"mbit": 1e6, "gbit": 1e9}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rate", default="1gbit", help="a number and mbit or gbit")
    asked.add_argument("--delay", help="of each packet, such as 1ms")
    asked.add_argument("--batch", type=int, nargs="*", default=[1024, 8192])
    options = asked.parse_args()
    bits = float(options.rate[:-4]) * UNITS[options.rate[-4:]]
    with network() as names:
        free = table(names, options.batch)
        for name in names:
            limit(name, options.rate, options.delay)
        held = table(names, options.batch)
    sys.stdout.write(f"| batch | no limit, ms | sent by each, MB | predicted at {options.rate}, ms | measured, ms |\n")
    sys.stdout.write("|---:|---:|---:|---:|---:|\n")
    for (size, before, sent), (_, after, _) in zip(free, held, strict=True):
        due = before + sent / 2 * 8 / bits * 1e3
        sys.stdout.write(f"| {size} | {before:.0f} | {sent / 2e6:.1f} | {due:.0f} | {after:.0f} |\n")


@contextmanager
def network() -> Iterator[Sequence[str]]:
    """Two namespaces with an interface of the same name each, and an address."""
    try:
        for name in NAMES:
            run("ip", "netns", "add", name)
        run("ip", "link", "add", NAMES[0], "type", "veth", "peer", "name", NAMES[1])
        for number, name in enumerate(NAMES):
            run("ip", "link", "set", name, "netns", name)
            run("ip", "-n", name, "addr", "add", f"{ADDRESS}{number + 1}/24", "dev", name)
            for device in ("lo", name):
                run("ip", "-n", name, "link", "set", device, "up")
        yield NAMES
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def limit(name: str, rate: str, delay: str | None) -> None:
    """Let no more through than `rate`, each packet after `delay`."""
    inside = ("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", name)
    run(*inside, "root", "handle", "1:", "tbf", "rate", rate, "burst", "256kb", "latency", "100ms")
    if delay is not None:
        run(*inside, "parent", "1:1", "netem", "delay", delay)


def table(names: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, float, float]]:
    """Of each batch size: milliseconds of a step by the clock, and bytes of both workers."""
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": f"{ADDRESS}1", "MASTER_PORT": "29517"}
    command = [sys.executable, str(Path(__file__).with_name("workers.py")), "--batch", *map(str, sizes)]
    both = []
    for rank, name in enumerate(names):
        own = {**shared, "RANK": str(rank), "GLOO_SOCKET_IFNAME": name, "OMP_NUM_THREADS": "1"}
        inside = ["ip", "netns", "exec", name, *command]
        both.append(subprocess.Popen(inside, env=own, stdout=subprocess.PIPE, text=True))
    lines = both[0].communicate()[0].splitlines()
    if any(process.wait() for process in both):
        sys.exit("a worker failed")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[2:3].isdigit()]
    return [(row[0], float(row[3].split(",")[0]), float(row[6].replace(",", ""))) for row in rows]


def run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
