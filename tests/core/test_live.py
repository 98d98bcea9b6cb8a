"""What is wrong with a fleet, said in one line each."""

from typing import Any

import pytest

from fanout.core.live import Live, LiveDiscovery, LiveLoss, LiveNode, LivePublishes, problems

NODE: dict[str, Any] = {
    "id": "node-1", "address": "h:1", "state": "active", "incarnation": 1, "usable": True,
    "covered": True, "unheard": False, "fenced": False, "covered_by": 3, "uncovered_by": [],
    "uncovered_by_count": 0, "unheard_by": [], "unheard_by_count": 0, "published_messages": 0,
    "published_per_second": 0.0, "received_messages": 0, "received_per_second": 0.0,
    "outbox_bytes": 0, "probe_seconds": 0.001, "gaps": 0,
}  # fmt: skip
PUBLISHES: dict[str, Any] = {
    "executed": 1, "executed_per_second": 0.0, "failed": {}, "failed_per_second": 0.0,
    "retries": 0, "waiting": 0,
}  # fmt: skip
DISCOVERY: dict[str, Any] = {
    "instance": "d:1", "readable": True, "writable": True, "error": "", "read_age_seconds": 1.0,
}  # fmt: skip
LIVE: dict[str, Any] = {
    "number": 2, "at": 0.0, "seconds": 1.0, "cluster": "c", "sidecar": "s", "version": "1",
    "uptime_seconds": 1.0, "loop_lag_seconds": 0.0, "ready": True, "reason": "", "frozen": False,
    "sidecars": [], "sidecars_count": 3, "doors": [], "consumers": [], "consumers_count": 0,
    "channels": [], "unknown": [], "lost": [],
}  # fmt: skip


def live(
    node: dict[str, Any] | None = None,
    publishes: dict[str, Any] | None = None,
    discovery: dict[str, Any] | None = None,
    **own: Any,
) -> Live:
    """A whole fleet, but for what is given."""
    return Live(
        **{
            **LIVE,
            "nodes": [LiveNode(**{**NODE, **(node or {})})],
            "publishes": LivePublishes(**{**PUBLISHES, **(publishes or {})}),
            "discovery": [LiveDiscovery(**{**DISCOVERY, **(discovery or {})})],
            **own,
        }
    )


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({}, "active"),
        ({"usable": False, "unheard": True}, "unreachable"),
        ({"unheard": True}, "not heard"),
        ({"unheard_by_count": 1, "fenced": True}, "not heard"),
        ({"fenced": True, "uncovered_by_count": 1}, "refusing"),
        ({"uncovered_by_count": 1, "probe_seconds": 9.0}, "not covered"),
        ({"state": "joining", "usable": False, "uncovered_by_count": 1}, "joining"),
        ({"state": "draining", "fenced": True}, "draining"),
        ({"state": "draining", "unheard": True}, "not heard"),
        ({"outbox_bytes": 65_537}, "slow"),
        ({"outbox_bytes": 65_536, "probe_seconds": 0.25}, "active"),
        ({"probe_seconds": 0.26}, "slow"),
        ({"probe_seconds": None}, "active"),
    ],
)
def test_a_node_has_the_word_that_matters_most(facts: dict[str, Any], word: str) -> None:
    """What stands in the table of nodes, on the page and in the terminal."""
    assert live(facts).nodes[0].word == word


def test_nothing_is_wrong_with_a_whole_fleet() -> None:
    """False alarms would have real ones ignored."""
    assert problems(live()) == []


@pytest.mark.parametrize(
    ("found", "level", "text"),
    [
        (
            live(ready=False, reason="no active node"),
            "error",
            "This sidecar is not ready: no active node",
        ),
        (
            live(publishes={"failed_per_second": 2.5, "waiting": 3}),
            "error",
            "2.5 publishes per second fail",
        ),
        (
            live(publishes={"waiting": 3}),
            "warning",
            "3 messages are waiting for a usable node",
        ),
        (
            live(frozen=True, discovery={"readable": False}),
            "warning",
            "Discovery cannot be read: the fleet is shown as last seen",
        ),
        (live(discovery={"readable": False}), "warning", "Discovery d:1 cannot be read"),
        (live(discovery={"writable": False}), "warning", "Discovery d:1 cannot be written to"),
        (
            live({"unheard": True, "unheard_by": ["s"], "unheard_by_count": 1}),
            "error",
            "node-1 is not heard by this sidecar",
        ),
        (
            live({"unheard_by": ["a", "b"], "unheard_by_count": 9}),
            "error",
            "node-1 is not heard by a, b and 7 more",
        ),
        (live({"state": "joining", "usable": False}), "warning", "node-1 is joining"),
        (live({"state": "draining", "usable": False}), "warning", "node-1 is draining"),
        (live({"usable": False}), "error", "node-1 is unreachable from this sidecar"),
        (live({"fenced": True}), "warning", "node-1 refuses publishes"),
        (
            live(lost=[LiveLoss(id="node-2", ago_seconds=59.7)]),
            "warning",
            "node-2 fell silent and was removed 60 s ago",
        ),
        (
            live(lost=[LiveLoss(id="node-2", ago_seconds=190)]),
            "warning",
            "node-2 fell silent and was removed 3 min ago",
        ),
        (
            live(unknown=["node-9"]),
            "error",
            "node-9 is heard by other sidecars but missing in discovery",
        ),
        (
            live({"uncovered_by": ["a"], "uncovered_by_count": 1}),
            "warning",
            "node-1 is not covered by a",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_said_once(found: Live, level: str, text: str) -> None:
    """With its name, and how bad it is."""
    (problem,) = problems(found)
    assert (problem.level, problem.text) == (level, text)


def test_the_worst_comes_first() -> None:
    """It may be all that is read."""
    found = problems(live({"state": "draining"}, frozen=True, ready=False, reason="it leaves"))
    assert [each.level for each in found] == ["error", "warning", "warning"]
