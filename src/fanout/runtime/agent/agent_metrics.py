"""The metrics of a node's agent."""

import attrs
import trio

from fanout.core.agent import AgentStatistics
from fanout.core.histogram import HistogramStatistics
from fanout.runtime.agent.node_redis import RedisStatistics
from fanout.runtime.discovery.registry import InstanceStatistics
from fanout.runtime.metrics.common_metrics import COMMON_METRICS, states
from fanout.runtime.metrics.metrics import Family, Table, one, words

DEADLINES = ("join", "publishers", "subscribers")


@attrs.frozen(kw_only=True)
class NodeServiceStatistics:
    """Statistics of an agent and its Redis."""

    labels: tuple[str, str, str, str]
    agent: AgentStatistics
    redis: RedisStatistics
    discovery: tuple[InstanceStatistics, ...]
    loop_lag: HistogramStatistics
    unready: str


AGENT_METRICS: Table[NodeServiceStatistics] = (
    *COMMON_METRICS,
    Family(
        "fanout_agent_state",
        "gauge",
        "1 for the current state of the node, 0 for the others.",
        lambda s: states(s.agent.state),
        ("state",),
    ),
    Family(
        "fanout_agent_state_seconds",
        "gauge",
        "Seconds since the last state change; infinite before the Redis was first up.",
        one(lambda s: trio.current_time() - s.agent.state_since),
    ),
    Family(
        "fanout_agent_redis_up",
        "gauge",
        "1 if the node's Redis returns what is published on it, else 0.",
        one(lambda s: s.agent.vouched),
    ),
    Family(
        "fanout_agent_cooperative",
        "gauge",
        "1 if the agent may not fence the node, so that a drain relies on the answers of "
        "sidecars, else 0.",
        one(lambda s: bool(s.redis.cooperative)),
    ),
    Family(
        "fanout_agent_lives_total",
        "counter",
        "Incarnations of the node: one at the start, and one for each restart of its Redis.",
        one(lambda s: s.agent.incarnations),
    ),
    Family(
        "fanout_agent_heartbeats_total",
        "counter",
        "Records written to discovery.",
        one(lambda s: s.agent.heartbeats),
    ),
    Family(
        "fanout_agent_heartbeat_age_seconds",
        "gauge",
        "Seconds since the last record was written to discovery; infinite before the first.",
        one(lambda s: trio.current_time() - s.agent.heartbeat_at),
    ),
    Family(
        "fanout_agent_redis_failures_total",
        "counter",
        "Connections to the node's Redis that were lost or failed.",
        one(lambda s: s.redis.link_failures),
    ),
    Family(
        "fanout_agent_probes_total",
        "counter",
        "Probes published on the node.",
        one(lambda s: s.redis.probes),
    ),
    Family(
        "fanout_agent_probe_failures_total",
        "counter",
        "Probes that did not come back in time.",
        one(lambda s: s.redis.probe_failures),
    ),
    Family(
        "fanout_agent_probe_seconds",
        "gauge",
        "Round-trip time of the last probe that came back.",
        one(lambda s: s.redis.probe_seconds),
    ),
    Family(
        "fanout_agent_sidecars",
        "gauge",
        "Live sidecars in discovery.",
        one(lambda s: s.agent.sidecars),
    ),
    Family(
        "fanout_agent_missing_sidecars",
        "gauge",
        "Sidecars that the current join or drain waits for.",
        one(lambda s: len(s.agent.missing)),
    ),
    Family(
        "fanout_agent_join_seconds",
        "histogram",
        "Time joins took until the node was active.",
        one(lambda s: s.agent.joins),
    ),
    Family(
        "fanout_agent_drain_seconds",
        "histogram",
        "Time drains took until the node left.",
        one(lambda s: s.agent.drains),
    ),
    Family(
        "fanout_agent_deadlines_missed_total",
        "counter",
        "Waits for sidecars ended by the deadline: join (activated without some), publishers "
        "(closed while some may still publish), subscribers (left while some were subscribed).",
        lambda s: words(s.agent.deadlines_missed, DEADLINES),
        ("deadline",),
    ),
)
