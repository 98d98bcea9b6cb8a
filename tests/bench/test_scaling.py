"""The paper model of large fleets, and the page that shows it."""

from pathlib import Path

import attrs
import pytest

from bench.model import LOADS, USED, Costs, Load, need, table

PAGE = Path(__file__).parents[2] / "docs/scaling.md"
LOAD = Load(deliveries=1e6, sidecars=100, interested=10, clients=10)


def test_the_page_shows_the_table() -> None:
    """As the model reckons it today: `python -m bench model`."""
    shown = PAGE.read_text().partition("<!-- model -->\n\n")[2].partition("\n\n")[0]

    assert shown + "\n" == table(Costs())


def test_costs_stand_on_the_page() -> None:
    """Readers with other costs can calculate again."""
    text = PAGE.read_text()
    for field in attrs.fields(Costs):
        assert f"| `{field.name}` | {field.default:g} |" in text


@pytest.mark.parametrize("load", LOADS)
def test_nodes_are_as_many_as_it_takes(load: Load) -> None:
    """No node is busier than it may be, and one fewer would not do, unless two are the least."""
    costs = Costs()
    found = need(load, costs)
    assert found.node_use <= USED
    probing = load.sidecars * costs.node_probe / 2e6
    whole = (found.node_use - probing) * found.nodes
    assert found.nodes == 2 or whole / (found.nodes - 1) + probing > USED


@pytest.mark.parametrize(
    ("field", "grows"),
    [
        ("node_message", "node_use"),
        ("node_copy", "node_use"),
        ("node_probe", "node_use"),
        ("sidecar_message", "sidecar_use"),
        ("sidecar_delivery", "sidecar_use"),
        ("sidecar_publish", "sidecar_use"),
        ("discovery_record", "discovery_use"),
    ],
)
def test_every_cost_counts(field: str, grows: str) -> None:
    """In its place, and there alone."""
    before = need(LOAD, Costs())
    after = need(LOAD, attrs.evolve(Costs(), **{field: 1.5 * getattr(Costs(), field)}))
    for use in ("node_use", "sidecar_use", "discovery_use"):
        assert (getattr(after, use) > getattr(before, use)) is (use == grows)


def test_too_many_sidecars_for_any_node_are_said() -> None:
    """More nodes would not help: each is probed by all."""
    with pytest.raises(ValueError, match="alone exhaust a node"):
        need(attrs.evolve(LOAD, sidecars=100_000), Costs())
