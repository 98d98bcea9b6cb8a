"""Error reports to Sentry through its SDK, enabled by `SENTRY_DSN`.

Only logged errors and crashes are sent: no breadcrumbs, no local variables, no requests. Secrets of
the configuration are masked everywhere.
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
"""Passwords in URLs, and passwords derived from the fleet's secret."""


def _print_nothing(_pending: int, _timeout: float) -> None:
    """Print nothing about reports that are pending at exit."""


def start_sentry(
    dsn: str, secrets: Collection[str], *, release: str, transport: Transport | None = None
) -> structlog.typing.Processor:
    """Start to report crashes; return the log processor that reports errors.

    Args:
        dsn: the DSN of the Sentry project.
        secrets: texts to mask in every report.
        release: the version in the reports.
        transport: sends the reports; HTTP by default.

    Raises:
        ConfigError: invalid DSN. The message does not repeat it, because it contains a key.

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
                AtexitIntegration(callback=_print_nothing),
                DedupeIntegration(),
                ExcepthookIntegration(),
            ],
            before_send=lambda event, _hint: scrub(event),
            include_local_variables=False,
            max_breadcrumbs=0,
        )
    except BadDsn:
        raise ConfigError(
            "SENTRY_DSN: invalid DSN: expected https://KEY@HOST/NUMBER (from environment "
            "variable SENTRY_DSN)"
        ) from None
    return SentryProcessor(level=logging.CRITICAL, event_level=logging.ERROR, tag_keys=TAGS)
