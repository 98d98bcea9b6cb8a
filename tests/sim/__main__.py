"""Runs seeds on all cores and prints those that fail."""

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time
import traceback
from functools import partial

import structlog

from tests.sim.run import simulate


def run_seed(seed: int, *, verbose: bool = False) -> tuple[int, list[str], str]:
    """Run one seed; even seeds know only planned change, odd ones faults as well."""
    gc.set_threshold(50_000)  # a run leaves little behind, and ends soon
    if not verbose:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        history, found = simulate(seed, planned=seed % 2 == 0)
    except Exception:  # noqa: BLE001 - any exception is a finding
        return seed, ["the run itself failed"], traceback.format_exc()
    return seed, found, "\n".join(history.lines())


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="run this one only and print its history")
    parser.add_argument("--logs", action="store_true", help="with --seed: the fleet's own logs")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        _, found, text = run_seed(arguments.seed, verbose=arguments.logs)
        print(text, *found, sep="\n")
        return bool(found)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    began = time.monotonic()
    failed = 0
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for seed, found, text in pool.imap_unordered(partial(run_seed), seeds):
            if found:
                failed += 1
                if failed == 1:
                    print(text)
                print(f"seed {seed}: {len(found)} violations, first: {found[0]}", flush=True)
    seconds = time.monotonic() - began
    print(f"{arguments.seeds} seeds, {failed} failed, {seconds:.0f} s")
    return bool(failed)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(  # noqa: S606 - the same command again
            sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]]
        )
    sys.exit(main())
