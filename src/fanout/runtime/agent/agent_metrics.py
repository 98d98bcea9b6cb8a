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
    """A node's agent with its Redis."""

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
        "1 for the state that the node is in, 0 for the others.",
        lambda s: states(s.agent.state),
        ("state",),
    ),
    Family(
        "fanout_agent_state_seconds",
        "gauge",
        "How long the node has been in it; infinite before its Redis was first up.",
        one(lambda s: trio.current_time() - s.agent.state_since),
    ),
    Family(
        "fanout_agent_redis_up",
        "gauge",
        "1 while the node's Redis returns what is published on it, else 0.",
        one(lambda s: s.agent.vouched),
    ),
    Family(
        "fanout_agent_cooperative",
        "gauge",
        "1 when the agent may not fence the node, so that a drain rests on sidecars that answer.",
        one(lambda s: bool(s.redis.cooperative)),
    ),
    Family(
        "fanout_agent_lives_total",
        "counter",
        "Lives of the node that began: at the start, and with each restart of its Redis.",
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
        "Time since the last of them; infinite before the first.",
        one(lambda s: trio.current_time() - s.agent.heartbeat_at),
    ),
    Family(
        "fanout_agent_redis_failures_total",
        "counter",
        "Connections to the node's Redis that were lost, and attempts that failed.",
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
        "How long the last probe took that came back.",
        one(lambda s: s.redis.probe_seconds),
    ),
    Family(
        "fanout_agent_sidecars",
        "gauge",
        "Live sidecars that discovery knows.",
        one(lambda s: s.agent.sidecars),
    ),
    Family(
        "fanout_agent_missing_sidecars",
        "gauge",
        "Sidecars that a join or a drain waits for now.",
        one(lambda s: len(s.agent.missing)),
    ),
    Family(
        "fanout_agent_join_seconds",
        "histogram",
        "How long joins took, until the node was active.",
        one(lambda s: s.agent.joins),
    ),
    Family(
        "fanout_agent_drain_seconds",
        "histogram",
        "How long drains took, until the node was gone.",
        one(lambda s: s.agent.drains),
    ),
    Family(
        "fanout_agent_deadlines_missed_total",
        "counter",
        "Waits for sidecars that the deadline ended: join (activated without some), publishers "
        "(closed while some may still publish), subscribers (left while some were subscribed).",
        lambda s: words(s.agent.deadlines_missed, DEADLINES),
        ("deadline",),
    ),
)
