"""The parts of the bench that only compute: what it says, counts, names and draws."""

import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.crc import key_slot
from rich.console import Console

from bench import plot, protocols, report
from bench.figures import PERCENTILES, SAMPLES_MAX, Figures, middle, percentiles, span
from bench.load import Loadgen, Stalled
from bench.machine import about
from bench.processes import Missing, Servers
from bench.runner import Tried
from bench.scenarios import Row, Scenario, scenarios
from bench.systems import System, name_at
from bench.traffic import Traffic, split

EVERY_PROTOCOL = (
    protocols.Redis(),
    protocols.Redis(shard="S"),
    protocols.Nats(),
    protocols.Bridge(),
    protocols.SocketIo(),
    protocols.Nchan(),
    protocols.Webdis(),
)


# Figures.


def test_rounds_become_a_median_and_a_range() -> None:
    """Of each figure that all rounds have."""
    trials: list[Figures] = [{"a": 3, "b": 1}, {"a": 1, "b": 5}, {"a": 10, "b": 2, "c": 7}]

    assert middle(trials) == {"a": 3, "b": 2}
    assert span(trials) == {"a": (1, 10), "b": (1, 5)}


def test_percentiles_are_in_microseconds() -> None:
    """Each is exact to three digits, and one outlier in a thousand is seen."""
    found = percentiles([1000 * n for n in range(1, 1001)])

    assert found["latency_us.p50"] == pytest.approx(500, rel=2e-3)
    assert found["latency_us.p90"] == pytest.approx(900, rel=2e-3)
    assert found["latency_us.p99"] == pytest.approx(990, rel=2e-3)
    assert found["latency_us.p99.9"] == pytest.approx(999, rel=2e-3)


def test_many_samples_are_thinned_out_evenly() -> None:
    """The first half weighs as much as the second."""
    samples = [1000] * SAMPLES_MAX + [9000] * (2 * SAMPLES_MAX)

    assert percentiles(samples)["latency_us.p50"] == pytest.approx(9, rel=2e-3)
    assert percentiles(samples[: SAMPLES_MAX + 9])["latency_us.p90"] == pytest.approx(1, rel=2e-3)


# Messages.


@pytest.mark.parametrize("size", [16, 17, 100, 2**20])
def test_a_payload_has_its_size_and_one_mark(size: int) -> None:
    """A message is counted by its mark, so no other byte may equal the mark."""
    data = protocols.payload(size)

    assert len(data) == size
    assert data.count(protocols.MARK) == 1


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL, ids=lambda each: type(each).__name__)
def test_each_message_of_a_batch_has_one_mark(protocol: protocols.Protocol) -> None:
    """Whatever the protocol puts around it."""
    batch = protocol.batch(["c", "d", "c"], protocols.payload(100))

    assert batch.data.count(protocols.MARK) == 3
    assert batch.replies in {1, 3}
    assert len(batch.mark) == 1


def test_many_names_are_asked_for_in_requests_of_a_size() -> None:
    """The websocket door takes 1024 names in one request; only the last is answered."""
    names = [f"c{n}" for n in range(2500)]
    said = protocols.Bridge().subscribing("h:1", names, patterns=False)[-1]

    assert said[0].count(b'"op": "subscribe"') == 3
    assert said[0].count(b'"id"') == 1
    assert said[0].index(b'"id"') > said[0].rindex(b'"op"')
    assert said[1] == '"sub"'


# Trials.


def test_a_load_is_split_without_losing_or_inventing_any() -> None:
    """A generator without connections is not started."""
    assert split(10, 3) == [3, 3, 4]
    assert split(2, 3) == [1, 1]
    assert sum(split(1000, 7)) == 1000


def test_what_is_on_its_way_is_bounded_but_enough_to_keep_publishers_going() -> None:
    """In bytes to each subscriber, in deliveries to all; never under two batches of each client."""
    assert Traffic().window(1) == 2**20 // 200
    assert Traffic().window(1000) == 100_000
    assert Traffic(depth=64).window(1000) == 2 * 4 * 64 * 1000
    assert Traffic(payload_bytes=2**20).window(10) == 2 * 4 * 10
    assert Traffic(paced=False).window(1) > 2**60


def test_a_channel_of_a_cluster_node_is_in_its_slots() -> None:
    """Else SPUBLISH is answered with MOVED."""
    for node in range(8):
        assert 16384 * node // 8 <= key_slot(name_at(node, 8).encode()) < 16384 * (node + 1) // 8


# Scenarios.


def test_scenarios_can_be_told_apart() -> None:
    """By name, and their rows by theirs: results are kept under both."""
    names = [scenario.name for scenario in scenarios()]

    assert len(set(names)) == len(names)
    for scenario in scenarios():
        rows = [row.name for row in scenario.rows]
        assert len(set(rows)) == len(rows) > 1


def test_what_is_drawn_is_measured() -> None:
    """And what a scenario says it is drawn in, there is."""
    assert {each.plot for each in scenarios() if each.plot} == {each.plot for each in plot.PLOTS}


def test_quick_is_a_part_that_fits_into_two_minutes() -> None:
    """A row takes about two seconds, and several where servers are many."""
    quick = [len(scenario.rows) for scenario in scenarios() if scenario.quick]

    assert 0 < sum(quick) <= 45


@attrs.frozen
class Scripted:
    """A trial with known ends, one for each round."""

    ends: Sequence[Figures | Exception]
    tried: list[None] = attrs.field(factory=list)

    def run(self, _loadgen: Loadgen, _system: System, _seconds: float) -> Figures:
        """Return or raise the next."""
        end = self.ends[len(self.tried)]
        self.tried.append(None)
        if isinstance(end, Exception):
            raise end
        return end


def _start(_servers: Servers) -> System:
    return System((), (), {})


def _missing(_servers: Servers) -> System:
    raise Missing("x is not installed: apt install x")


def test_a_system_that_lost_messages_has_no_figures(tmp_path: Path) -> None:
    """Not even those of rounds before, and it is not tried again; what is missing is named."""
    lossy = Scripted([{"a": 1}, Stalled("9 of 10 messages arrived"), {"a": 1}])
    whole = Scripted([{"a": 1}, {"a": 2}, {"a": 3}])
    rows = (
        Row("whole", _start, whole),
        Row("lossy", _start, lossy),
        Row("absent", _missing, Scripted([])),
    )
    tried = Tried(Scenario("s", rows))
    loadgen: Any = None

    assert len(list(tried.rounds(loadgen, tmp_path, 3, 0))) == 9
    assert len(lossy.tried) == 2
    assert tried.results() == {
        "name": "s",
        "plot": "",
        "at": 0,
        "systems": {"whole": [{"a": 1}, {"a": 2}, {"a": 3}]},
        "without": {
            "lossy": "9 of 10 messages arrived",
            "absent": "x is not installed: apt install x",
        },
    }


def test_a_fresh_scenario_starts_its_system_for_each_trial(tmp_path: Path) -> None:
    """Others start it once."""
    started = []

    def start(servers: Servers) -> System:
        started.append(servers)
        return _start(servers)

    loadgen: Any = None
    for fresh, times in ((True, 2), (False, 1)):
        started.clear()
        rows = (Row("r", start, Scripted([{}, {}])),)
        list(Tried(Scenario("s", rows, fresh=fresh)).rounds(loadgen, tmp_path, 2, 0))
        assert len(started) == times


# Reports.


def _results(factor: float = 1, without: str = "") -> dict[str, Any]:
    def trials(figure: float) -> list[Figures]:
        return [
            {
                "messages_per_second": n * figure * factor,
                "deliveries_per_second": n * figure,
                "cpu_us_per_delivery": n / figure,
                "cpu_us_per_message": n / figure,
                "cpu_us_per_message.redis": n / figure,
                **{f"latency_us.p{p:g}": n * p for p in PERCENTILES},
            }
            for n in (1, 2, 4)
        ]

    return {
        "about": dict.fromkeys(about(), "v1"),
        "ceiling": {"received_per_second": 5.0},
        "rounds": 3,
        "seconds": 0.5,
        "scenarios": [
            {
                "name": name,
                "plot": drawn,
                "at": at,
                "systems": {"redis": trials(1000), "fanout & co": trials(4000)},
                "without": {"nchan": without} if without else {},
            }
            for name, drawn, at in (
                ("few", "fan-out", 1),
                ("many", "fan-out", 10),
                ("steady", "latency", 0),
                ("two", "nodes", 2),
            )
        ],
    }


def _console() -> Console:
    return Console(file=io.StringIO(), width=160)


def _said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_table_shows_median_ratio_range_and_who_is_missing() -> None:
    """Ratios are to the first system."""
    console = _console()
    report.show_scenario(_results(without="90 of 100 messages arrived")["scenarios"][0], console)

    for text in ("2k", "8k", "x 1.00", "x 4.00", "4k..16k"):
        assert text in _said(console)
    assert "without nchan: 90 of 100 messages arrived" in _said(console)


def test_a_comparison_shows_what_a_change_did() -> None:
    """After over before, only of what both have."""
    console = _console()
    after = _results(3)
    after["scenarios"].append({"name": "new", "systems": {"redis": [{"lost": 0}]}, "without": {}})
    del after["scenarios"][0]["systems"]["redis"]
    report.compare(_results(), after, console)

    assert "3.00" in _said(console)
    assert "1.00" in _said(console)
    assert "many: after / before" in _said(console)
    assert "new" not in _said(console)


def test_figures_have_three_digits() -> None:
    """And never an exponent."""
    given = (0, 0.01234, 7, 999.4, 999.6, 1234, 25_432_100, 999_960_000)
    said = ["0", "0.0123", "7", "999", "1k", "1.23k", "25.4M", "1G"]

    assert [report.short(value) for value in given] == said


def test_of_nothing_there_is_no_ratio() -> None:
    """Not a division by zero."""
    assert report.ratio(2, 3) == "1.50"
    assert report.ratio(0, 3) == "-"


# Plots.


def test_lines_go_over_scenarios_in_order() -> None:
    """Each point is the median, between the least and the greatest."""
    found = plot.over("deliveries_per_second")(reversed(_results()["scenarios"][:2]))

    assert found["redis"] == plot.Line([1, 10], [2000, 2000], [1000, 1000], [4000, 4000])
    assert list(found) == ["redis", "fanout & co"]


def test_what_sidecars_add_is_a_line_of_its_own() -> None:
    """Beside that of the Redis servers alone, and only where there are sidecars."""
    results = _results()["scenarios"][3:]
    for name, factor in (("redis", 1), ("fanout & co", 2)):
        for trial in results[0]["systems"][name]:
            trial["cpu_us_per_message"] = factor * trial["cpu_us_per_message.redis"]
    found = plot.on_nodes(results)

    assert list(found) == ["redis", "fanout & co", "fanout & co, with sidecars and agents"]
    assert found["fanout & co, with sidecars and agents"].middle == [2 * 2 / 4000]


def test_a_picture_says_what_it_was_measured_on(tmp_path: Path) -> None:
    """It is well-formed, names systems, machine and date, and takes its ink from the page."""
    written = plot.draw(_results(), tmp_path)

    assert {path.name for path in written} == {each.file for each in plot.PLOTS}
    for path in written:
        text = path.read_text()
        words = " ".join(ET.fromstring(text).itertext())  # noqa: S314 - our own
        for word in ("fanout & co", "redis", "Linux v1", "median and range of 3 rounds of 0.5 s"):
            assert word in words
        assert "prefers-color-scheme: dark" in text
        assert plot.INK not in text
        assert "currentColor" in text


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    """A run with --only draws what it has; the same results give the same bytes."""
    results = _results()
    results["scenarios"] = results["scenarios"][2:3]
    (path,) = plot.draw(results, tmp_path)
    first = path.read_bytes()
    plot.draw(results, tmp_path)

    assert path.name == "bench-latency.svg"
    assert path.read_bytes() == first
