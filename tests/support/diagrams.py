"""Writes the diagrams of docs/design.md from the code's tables: `python -m tests.support.diagrams`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from fanout.core.agent import MOVES, RENEWABLE, STATES, Phase
from fanout.values.records import NodeState

PAGE = Path(__file__).parents[2] / "docs/design.md"
BLOCK = re.compile(r"(<!-- diagram (\w+): .*? -->\n).*?(<!-- /diagram -->)", re.DOTALL)


def state_moves() -> Mapping[NodeState, set[NodeState]]:
    """Return the moves of a node's state that the agent's phases allow."""
    found: dict[NodeState, set[NodeState]] = {state: set() for state in NodeState}
    for phase, following in MOVES.items():
        if phase in STATES:
            found[STATES[phase]] |= {STATES[each] for each in following} - {STATES[phase]}
    return found


S = TypeVar("S", bound=Enum)


def diagram(moves: Mapping[S, Iterable[S]], also: Iterable[tuple[S, S, str]] = ()) -> Iterator[str]:
    """Yield the lines of a Mermaid state diagram; states in the order of their class."""
    order = list(moves)
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {order[0].name}"
    for state in order:
        for following in sorted(moves[state], key=order.index):
            yield f"    {state.name} --> {following.name}"
        if not moves[state]:
            yield f"    {state.name} --> [*]"
    for state, following, label in also:
        yield f"    {state.name} --> {following.name}: {label}"
    yield "```"


def diagrams() -> dict[str, str]:
    """Return each diagram by its name."""
    renewed = [(each, Phase.ANNOUNCING, "Redis restarted") for each in Phase if each in RENEWABLE]
    return {
        "states": "\n".join(diagram(state_moves())) + "\n",
        "phases": "\n".join(diagram(MOVES, renewed)) + "\n",
    }


def page(text: str) -> str:
    """Return the page with its diagrams as they are in the code."""
    drawn = diagrams()
    return BLOCK.sub(lambda found: f"{found[1]}{drawn[found[2]]}{found[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
