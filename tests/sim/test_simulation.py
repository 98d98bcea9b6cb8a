"""Seeds that must pass, and a fleet made wrong on purpose, in which they must find the loss."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest

from fanout.core.agent import Agent, Phase
from fanout.core.agent_effects import Activated, Effect
from fanout.core.backoff import Backoff
from fanout.core.hearing import Hearing
from fanout.core.membership import Effect as LedgerEffect
from fanout.core.membership import Membership
from fanout.core.subscriptions import Subscriptions
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.values.control import End
from fanout.values.names import NodeId, SidecarId
from fanout.values.records import NodeRecord, NodeState
from tests.sim.run import simulate

SEEDS = 200
"""Half of them planned change only, half with faults; more by `python -m tests.sim`."""
SABOTAGE_SEEDS = 500


@pytest.mark.timeout(600)
def test_seeds_violate_nothing() -> None:
    """No loss, no copy, order and truth through planned change; truth and recovery in faults."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--seeds", str(SEEDS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds, 0 failed" in done.stdout


begin = Agent._begin_incarnation


def join_without_barrier(agent: Any, now: float) -> tuple[Effect, ...]:
    """Let sidecars publish on a node as soon as it is there."""
    begun = begin(agent, now)
    agent._enter(Phase.COVERING, now)
    moved = agent._enter(Phase.ACTIVE, now)
    return (*begun, *agent._gate(is_open=True), *moved, Activated(agent._record, (), late=False))


observe = NodeLink.observe


def leave_without_end(link: NodeLink, record: NodeRecord) -> None:
    """Stop listening to a node as soon as it drains, whatever is still on its way."""
    observe(link, record)
    if record.state is NodeState.DRAINING:
        link._end(End(record.node, record.incarnation))


def confirm_at_once(subscriptions: Subscriptions, key: object) -> bool:
    """Tell a client that it is subscribed before any node has said so."""
    del subscriptions, key
    return True


advance = Membership.advance


def expire_in_silence(membership: Membership, now: float) -> tuple[LedgerEffect, ...]:
    """Remove every node whose lease has run out, though discovery is away and the node delivers."""
    effects = advance(membership, now)
    nodes = membership._nodes
    over = [name for name, entry in nodes.entries.items() if entry.lease_end <= now]
    return (*effects, *(nodes.expire(name, now) for name in over))


next_deadline = Membership.next_deadline


def look_at_each_lease(membership: Membership) -> float:
    """Look again whenever a lease of a node runs out."""
    leases = [entry.lease_end for entry in membership._nodes.entries.values()]
    return min(next_deadline(membership), *leases, float("inf"))


def hear_nobody(hearing: Hearing, sidecar: SidecarId, deaf: Mapping[NodeId, int]) -> bool:
    """Take no heed of what others cannot hear."""
    del hearing, sidecar, deaf
    return False


def try_at_once(backoff: Backoff, attempt: int, rng: Random, *, members: int = 1) -> float:
    """Connect again as soon as a connection was lost or refused, however often."""
    del backoff, attempt, rng, members
    return 0.01


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("wrong", "invariant", "first"),
    [
        ({(Agent, "_begin_incarnation"): join_without_barrier}, "I5", 4),
        ({(NodeLink, "observe"): leave_without_end}, "I5", 10),
        ({(Subscriptions, "_confirmed"): confirm_at_once}, "I5", 0),
        (
            {
                (Membership, "advance"): expire_in_silence,
                (Membership, "next_deadline"): look_at_each_lease,
            },
            "I12",
            0,
        ),
        ({(Hearing, "tell"): hear_nobody}, "I15", 0),
        ({(Backoff, "delay_seconds"): try_at_once}, "I16", 1),
    ],
    ids=["no barrier", "no END", "no confirmation", "no freeze", "no hearing", "no backoff"],
)
def test_seeds_find_what_is_made_wrong(
    wrong: Mapping[tuple[type, str], Callable[..., Any]],
    invariant: str,
    first: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each rule is there for a loss or a harm that some seed shows without it.

    `first` is one that does so now, and the search goes on from there once it does no more.
    """
    for broken, replacement in wrong.items():
        monkeypatch.setattr(*broken, replacement)
    for seed in range(first, first + 2 * SABOTAGE_SEEDS, 2):
        _, found = simulate(seed, planned=seed % 2 == 0)
        if any(each.startswith(invariant) for each in found):
            return
    pytest.fail(f"no {invariant} in {SABOTAGE_SEEDS} seeds")
