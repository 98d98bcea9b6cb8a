"""Every alert fires when it should and not sooner, by promtool; every query names metrics there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from fanout.runtime.admin.sidecar_metrics import SIDECAR_METRICS
from fanout.runtime.agent.agent_metrics import AGENT_METRICS
from fanout.runtime.metrics.metrics import Family

OPS = Path(__file__).parents[2] / "docs/ops"
ALERTS = OPS / "alerts.yml"
RUNBOOK = OPS / "runbook.md"
DASHBOARD = OPS / "dashboard.json"
FAMILIES: tuple[Family[Any], ...] = (*SIDECAR_METRICS, *AGENT_METRICS)
LIBRARY = {"process_cpu_seconds_total", "process_resident_memory_bytes"} | {
    "process_open_fds",
    "process_max_fds",
}
"""What the queries use of the metrics that prometheus-client itself offers."""

HERE = 'job="fanout", instance="a:9380"'


def promtool(*arguments: str) -> str:
    """Run promtool; fail with what it says when it is not content."""
    binary = shutil.which("promtool")
    if binary is None:
        pytest.skip("needs promtool: apt install prometheus")
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@attrs.frozen
class Case:
    """When one alert fires.

    Attributes:
        series: labels beside `HERE`, and values every 30 s, of each metric.
        quiet: minutes after which it does not fire yet.
        fires: minutes after which it does.
        labels: those of the alert beside `HERE` and its severity.

    """

    series: dict[str, str]
    quiet: float
    fires: float
    labels: str = ""


def buckets(name: str, fast: str, slow: str) -> dict[str, str]:
    """Return the series of a histogram: what takes under 1 ms, and what takes between 0.5 and 2 s."""
    return {
        f'{name}_bucket{{le="0.001"}}': fast,
        f'{name}_bucket{{le="0.5"}}': fast,
        f'{name}_bucket{{le="2.0"}}': slow,
        f'{name}_bucket{{le="+Inf"}}': slow,
    }


FAST_THEN_SLOW = ("0+100x10 1000x40", "0+100x10 1000+100x40")
CASES = {
    "FanoutNotReady": Case({"fanout_ready": "1x3 0x20"}, 3.5, 4.5),
    "FanoutNodeDeaf": Case(
        {'fanout_node_deaf{node="n"}': "0x3 1x20"}, 2, 3, 'node="n"'
    ),
    "FanoutNodeNotCovered": Case(
        {
            'fanout_node_covered{node="n"}': "0x20",
            'fanout_node_state{node="n", state="joining"}': "1x5 0x20",
            'fanout_node_state{node="n", state="active"}': "0x5 1x20",
            'fanout_node_state{node="n", state="draining"}': "0x20",
        },
        3.5, 4.5, 'node="n"',
    ),
    "FanoutNoActiveNode": Case(
        {
            'fanout_node_state{node="n", state="active"}': "1x5 0x20",
            'fanout_node_state{node="n", state="draining"}': "0x5 1x20",
            "fanout_sidecars": "2x40",
        },
        3, 4,
    ),
    "FanoutNoActiveNode: none at all": Case({"fanout_sidecars": "2x40"}, 0, 1),
    "FanoutNodeRedisDown": Case({"fanout_agent_redis_up": "1x3 0x20"}, 2, 3),
    "FanoutPublishesFail": Case(
        {
            'fanout_publishes_total{outcome="executed"}': "0+100x40",
            'fanout_publishes_total{outcome="unknown"}': "0x9 1+1x30",
        },
        5.5, 6.5, 'outcome="unknown"',
    ),
    "FanoutMessagesMayBeMissed": Case(
        {
            'fanout_node_gaps_total{node="n", reason="lost"}': "0x9 1x30",
            'fanout_node_gaps_total{node="n", reason="heard"}': "0+1x30",
        },
        4.5, 6, 'node="n", reason="lost"',
    ),
    "FanoutPublishSlow": Case(buckets("fanout_publish_seconds", *FAST_THEN_SLOW), 9, 12.5),
    "FanoutLoopLag": Case(buckets("fanout_loop_lag_seconds", *FAST_THEN_SLOW), 9, 12.5),
    "FanoutSlowConsumers": Case(
        {
            'fanout_consumers_cut_total{door="ws", code="slow_consumer"}': "0x9 1x30",
            'fanout_consumers_cut_total{door="ws", code="no_pong"}': "0+1x40",
        },
        4.5, 6, 'door="ws", code="slow_consumer"',
    ),
    "FanoutDoorFull": Case(
        {'fanout_consumers_refused_total{door="ws"}': "0x9 1x30"}, 4.5, 6, 'door="ws"'
    ),
    "FanoutWrongSecrets": Case(
        {'fanout_consumer_faults_total{door="ws", code="wrong_secret"}': "0+1x20 20+300x40"},
        14, 17, 'door="ws", code="wrong_secret"',
    ),
    "FanoutDiscoveryUnreadable": Case(
        {'fanout_discovery_read_age_seconds{discovery="d"}': "1x3 30+30x20"},
        3.5, 5.5, 'discovery="d"',
    ),
    "FanoutDiscoveryUnwritable": Case(
        {'fanout_discovery_writable{discovery="d"}': "1x3 0x20"}, 3.5, 4.5, 'discovery="d"'
    ),
    "FanoutNodeStuck": Case(
        {
            "fanout_agent_state_seconds": "0+30x20",
            'fanout_agent_state{state="joining"}': "1x20",
            'fanout_agent_state{state="active"}': "0x20",
        },
        2, 3,
    ),
    "FanoutDeadlineMissed": Case(
        {'fanout_agent_deadlines_missed_total{deadline="join"}': "0x9 1x30"},
        4.5, 6, 'deadline="join"',
    ),
    "FanoutFenceTimeouts": Case({"fanout_fence_timeouts_total": "0x9 1x30"}, 4.5, 6),
    "FanoutNodeConflict": Case({"fanout_node_conflicts_total": "0x9 1x30"}, 4.5, 6),
    "FanoutFileDescriptors": Case(
        {
            "process_open_fds": "10x3 900x40",
            "process_max_fds": "1000x40",
            'fanout_info{command="fanout-sidecar"}': "1x40",
        },
        6, 8,
    ),
}  # fmt: skip


def labelled(name: str) -> str:
    """Return a series with the labels that a scrape sets."""
    metric, _, labels = name.partition("{")
    return f"{metric}{{{HERE}, {labels}" if labels else f"{metric}{{{HERE}}}"


def severity(alert: str) -> str:
    """Return what the rules file says of an alert."""
    rule = ALERTS.read_text().split(f"alert: {alert}\n")[1].split("- alert:")[0]
    found = re.search(r"severity: (\w+)", rule)
    assert found is not None
    return found[1]


def unit_test(alert: str, case: Case) -> dict[str, Any]:
    """Return what promtool is to check."""
    firing = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
    labels = ", ".join(filter(None, (HERE, f'severity="{severity(alert)}"', case.labels)))
    sample = {"labels": f"{firing[:-1]}, {labels}}}", "value": 1}
    return {
        "interval": "30s",
        "input_series": [
            {"series": labelled(name), "values": values} for name, values in case.series.items()
        ],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{int(case.quiet * 60)}s", "exp_samples": []},
            {"expr": firing, "eval_time": f"{int(case.fires * 60)}s", "exp_samples": [sample]},
        ],
    }


def test_the_rules_are_whole() -> None:
    """As promtool reads them; each alert has a case here."""
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())

    assert f"{len(alerts)} rules found" in promtool("check", "rules", str(ALERTS))
    assert sorted(alerts) == sorted({case.partition(":")[0] for case in CASES})


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_in_its_time(alert: str, tmp_path: Path) -> None:
    """Not before, and with the labels that say where."""
    tests = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "30s",
        "tests": [unit_test(alert.partition(":")[0], CASES[alert])],
    }
    file = tmp_path / "tests.json"  # JSON is YAML
    file.write_text(json.dumps(tests))

    assert "SUCCESS" in promtool("test", "rules", str(file))


def panels() -> Iterator[dict[str, Any]]:
    """Yield the panels of the dashboard, those within rows too."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> Iterator[str]:
    """Yield everything that is asked of Prometheus."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"]
    yield from re.findall(r"expr: (.*)", ALERTS.read_text())


def sample_names() -> set[str]:
    """Return the names of all series there are."""
    names = set(LIBRARY)
    for family in FAMILIES:
        parts = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        names |= {family.name + part for part in parts}
    return names


def test_queries_name_only_metrics_that_there_are() -> None:
    """A metric that is renamed takes its alerts and panels with it."""
    known = sample_names()
    asked = {name for query in queries() for name in re.findall(r"\b(?:fanout|process)_\w+", query)}

    assert asked
    assert asked <= known


def test_labels_in_queries_are_those_of_the_metrics() -> None:
    """A selector on a label that a metric does not have selects nothing, or everything."""
    labels = {
        family.name + part: {*family.labels, "le", "job", "instance"}
        for family in FAMILIES
        for part in ("", "_bucket", "_sum", "_count")
    }
    for query in queries():
        for name, selector in re.findall(r"\b(fanout_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector)) <= labels[name], query


def test_every_query_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    """As rules, which promtool parses; Grafana's own variables are filled in."""
    rules = [
        {"record": f"panel:{number}", "expr": fill_in(query)}
        for number, query in enumerate(queries())
    ]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", "--lint=none", str(file))


def fill_in(query: str) -> str:
    """Return a query as Grafana sends it."""
    return (
        query.replace("$__rate_interval", "1m").replace("$job", "fanout").replace("$instance", ".*")
    )


def test_the_panels_of_the_dashboard_say_what_they_show() -> None:
    """Each has a title, a unit and a description, and no two have one number or place."""
    shown = [panel for panel in panels() if panel["type"] != "row"]
    for panel in shown:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len({panel["id"] for panel in panels()}) == len(places) == len(set(places))


def rules() -> Iterator[dict[str, Any]]:
    """Yield every alert as the file has it."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from group["rules"]


def sections(page: str) -> dict[str, str]:
    """Return what stands below each heading of the third order that is an alert's name."""
    parts = re.split(r"^##+ (.*)$", page, flags=re.MULTILINE)[1:]
    return {
        name: text
        for name, text in zip(parts[::2], parts[1::2], strict=True)
        if name.startswith("Fanout")
    }


def test_every_alert_leads_to_its_section_of_the_runbook() -> None:
    """Which says what it means, where to look first and what to do; and no section is left over."""
    page = RUNBOOK.read_text()
    found = sections(page)
    where = RUNBOOK.relative_to(OPS.parents[1]).as_posix()

    assert [rule["alert"] for rule in rules()] == list(found)
    for rule in rules():
        name = rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"{where}#{name.lower()}"
        assert f"| [{name}](#{name.lower()}) | {rule['labels']['severity']} |\n" in page
        said = re.findall(r"^- \*\*(.*?)\.\*\* \S", found[name], re.MULTILINE)
        assert said == ["Meaning", "Diagnosis", "Action"]


def test_the_runbook_names_only_options_that_there_are() -> None:
    """An option that is renamed takes its advice with it."""
    known = (OPS.parent / "configuration.md").read_text()
    for text in sections(RUNBOOK.read_text()).values():
        for option in re.findall(r"`(--[a-z-]+)", text):
            assert f"`{option}`" in known
