"""Reports errors and crashes to Sentry, through its SDK, where `SENTRY_DSN` asks for it.

Only logged errors are sent and what ends the process: no breadcrumbs, no local variables, no
requests. Secrets of the configuration are masked wherever they turn up.
"""

import logging
import re
from collections.abc import Collection
from typing import Any

import sentry_sdk
import structlog
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.transport import Transport
from sentry_sdk.utils import BadDsn
from structlog_sentry import SentryProcessor

from fanout.errors import ConfigError

TAGS = ["cluster", "node", "sidecar"]

_PASSWORDS = re.compile(r"(?<=//)[^/@\s]*@|\b[0-9a-f]{64}\b")
"""Those of URLs, and those that are made of the fleet's secret."""


def _say_nothing(_pending: int, _timeout: float) -> None:
    """Say nothing of what is still being sent at the end."""


def start_sentry(
    dsn: str, secrets: Collection[str], *, release: str, transport: Transport | None = None
) -> structlog.typing.Processor:
    """Begin to report crashes; return the log's processor that reports errors.

    Args:
        dsn: where to, as Sentry gives it out.
        secrets: what must be nowhere in a report.
        release: the version that is reported.
        transport: how a report gets there, if not over HTTP.

    Raises:
        ConfigError: the DSN is none. It is not repeated: it holds a key.

    """

    def scrub(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: scrub(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [scrub(each) for each in value]
        if not isinstance(value, str):
            return value
        for secret in sorted(secrets, key=len, reverse=True):
            value = value.replace(secret, "***")
        return _PASSWORDS.sub("***", value)

    try:
        sentry_sdk.init(
            dsn,
            release=release,
            transport=transport,
            default_integrations=False,
            integrations=[
                AtexitIntegration(callback=_say_nothing),
                DedupeIntegration(),
                ExcepthookIntegration(),
            ],
            before_send=lambda event, _hint: scrub(event),
            include_local_variables=False,
            max_breadcrumbs=0,
        )
    except BadDsn:
        raise ConfigError(
            "SENTRY_DSN: not a DSN; it looks like https://KEY@HOST/NUMBER (from environment "
            "variable SENTRY_DSN)"
        ) from None
    return SentryProcessor(level=logging.CRITICAL, event_level=logging.ERROR, tag_keys=TAGS)
