"""Groups of options: timings and limits."""

import attrs

from fanout.config.options import option
from fanout.config.readers import read_count, read_seconds
from fanout.errors import SettingError

_BYTES_MAX = 2**31 - 1


@attrs.frozen(kw_only=True)
class Timings:
    """Intervals and timeouts, in seconds."""

    heartbeat_interval_seconds: float = option(
        2.0, read_seconds, "SECONDS",
        "Time between heartbeats to discovery. Raising it saves writes and delays the detection of a crash.",
    )  # fmt: skip
    lease_seconds: float = option(
        10.0, read_seconds, "SECONDS",
        "How long a record stays valid without a heartbeat. Raising it keeps crashed nodes listed longer.",
    )  # fmt: skip
    poll_interval_seconds: float = option(
        2.0, read_seconds, "SECONDS",
        "Time between reads of discovery when no change is hinted. Raising it saves reads and delays changes whose hint was lost.",
    )  # fmt: skip
    probe_interval_seconds: float = option(
        2.0, read_seconds, "SECONDS",
        "Silence of a node after which a probe is published. Raising it delays the detection of a node that does not deliver.",
    )  # fmt: skip
    probe_timeout_seconds: float = option(
        2.0, read_seconds, "SECONDS",
        "Timeout of a probe. Raising it tolerates slower nodes and delays the detection of stopped nodes.",
    )  # fmt: skip
    connect_timeout_seconds: float = option(
        2.0, read_seconds, "SECONDS",
        "Timeout of a connection attempt and of a login. Raising it delays the next attempt.",
    )  # fmt: skip
    publish_timeout_seconds: float = option(
        2.0, read_seconds, "SECONDS",
        "Timeout of a publish. Raising it makes clients wait longer for an error.",
    )  # fmt: skip
    join_timeout_seconds: float = option(
        30.0, read_seconds, "SECONDS",
        "How long a joining node waits for sidecars to subscribe. Raising it lets one stuck sidecar delay a join longer.",
    )  # fmt: skip
    drain_timeout_seconds: float = option(
        60.0, read_seconds, "SECONDS",
        "How long a draining node waits for sidecars to leave. Raising it lets one stuck sidecar delay a stop longer.",
    )  # fmt: skip
    reconnect_first_seconds: float = option(
        0.05, read_seconds, "SECONDS",
        "Longest delay before the first reconnect. Raising it spreads reconnects and lengthens short outages.",
    )  # fmt: skip
    reconnect_max_seconds: float = option(
        5.0, read_seconds, "SECONDS",
        "Longest delay between reconnects. Raising it saves attempts and delays the recovery from long outages.",
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if self.lease_seconds < 2 * self.heartbeat_interval_seconds:
            raise SettingError(
                f"lease-seconds: {self.lease_seconds:g} is too low: expected at least twice "
                f"heartbeat-interval-seconds ({self.heartbeat_interval_seconds:g})",
                "lease_seconds",
                "heartbeat_interval_seconds",
            )
        if self.reconnect_max_seconds < self.reconnect_first_seconds:
            raise SettingError(
                f"reconnect-max-seconds: {self.reconnect_max_seconds:g} is too low: expected "
                f"at least reconnect-first-seconds ({self.reconnect_first_seconds:g})",
                "reconnect_max_seconds",
                "reconnect_first_seconds",
            )


@attrs.frozen(kw_only=True)
class Limits:
    """Limits on each client of a sidecar, and on all of them."""

    payload_bytes_max: int = option(
        1_048_576, read_count(1, 7_340_032), "BYTES",
        "Largest message. Raising it costs memory per client and approaches Redis' own output limit of 8 MiB.",
    )  # fmt: skip
    channel_bytes_max: int = option(
        1024, read_count(1, 65_536), "BYTES",
        "Longest channel name or pattern. Raising it costs memory on every node for every name.",
    )  # fmt: skip
    outbox_bytes_max: int = option(
        8_388_608, read_count(1024, _BYTES_MAX), "BYTES",
        "Output buffer of one client; a client that exceeds it is disconnected. Raising it costs that much memory per slow client.",
    )  # fmt: skip
    subscriptions_max: int = option(
        16_384, read_count(1, 1_000_000), "COUNT",
        "Channels that one client may subscribe to. Raising it costs memory here and on every node for every channel.",
    )  # fmt: skip
    patterns_max: int = option(
        128, read_count(1, 100_000), "COUNT",
        "Patterns that one client may subscribe to. Raising it costs CPU on every node and sidecar for every message.",
    )  # fmt: skip
    distinct_patterns_max: int = option(
        512, read_count(1, 100_000), "COUNT",
        "Distinct patterns of all clients together. Raising it costs CPU on every node for every message.",
    )  # fmt: skip
    arguments_max: int = option(
        16_385, read_count(16, 1_000_001), "COUNT",
        "Arguments of one Redis command. A client that reconnects subscribes to all its channels with one command. Raising it costs memory per client.",
    )  # fmt: skip
    transaction_bytes_max: int = option(
        8_388_608, read_count(1024, _BYTES_MAX), "BYTES",
        "Size of the commands that one client may queue between MULTI and EXEC, and of their replies. Raising it costs that much memory per client.",
    )  # fmt: skip
    clients_max: int = option(
        10_000, read_count(1, 1_000_000), "COUNT",
        "Clients per door. Raising it costs memory and file descriptors.",
    )  # fmt: skip
    connects_per_second_max: int = option(
        1000, read_count(1, 1_000_000), "COUNT",
        "New connections accepted per door and second; further ones wait. Raising it lets a wave of reconnects delay the messages of connected clients.",
    )  # fmt: skip
    write_timeout_seconds: float = option(
        10.0, read_seconds, "SECONDS",
        "How long a client may read nothing before it is disconnected. Raising it keeps its output buffer in memory longer.",
    )  # fmt: skip
