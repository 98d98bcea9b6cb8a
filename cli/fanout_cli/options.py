"""Options of both commands: flag before environment before file before default.

The table is `fanout.config`: a setting added there is a flag, a variable, a key and a line of help.
"""

import gc
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

import click

import fanout
from fanout.config import (
    BridgeConfig,
    Configuration,
    DnsConfig,
    EdgeConfig,
    FleetConfig,
    NodeConfig,
    PurgeConfig,
    SidecarConfig,
    TopConfig,
    flag,
    groups,
    mask,
    options,
    secrets_of,
    split_urls,
)
from fanout.errors import ConfigError, FanoutError, OutputFailed, SettingError, leaves
from fanout.runtime.process.text import escape
from fanout.runtime.process.toml_file import read_toml

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it: 128 and the signal's number."""

UNREAD = 141
"""Exit code when the reader of standard output has left, as shells count what SIGPIPE ends."""

HOST_CHARACTERS_MAX = 48
"""How much of the host name goes into a default id: the process id must fit beside it."""

AS_JSON = "Print one JSON object."
"""Help of the flag --json."""

_WHOLE = (NodeConfig, SidecarConfig)
_ALL = (*_WHOLE, FleetConfig, DnsConfig, EdgeConfig, PurgeConfig, BridgeConfig, TopConfig)
_KNOWN = frozenset(name for config in _ALL for name in options(config))


class Logged(Protocol):
    """The settings of a service, as far as its log goes."""

    @property
    def log_level(self) -> str:
        """The least important that is logged."""

    @property
    def log_format(self) -> str:
        """How it is written."""


_FILE = click.Path()
"""For the shell, which then completes names of files; whether there is one is checked by who reads it."""

C = TypeVar("C", bound=Configuration)


class Configured(click.Command):
    """A command whose options are the settings of a configuration."""

    def __init__(self, config: type, params: list[click.Parameter], **attributes: Any) -> None:
        self._groups = groups(config)
        settings = [
            click.Option(
                [f"--{flag(name)}", name],
                metavar=field.metadata["metavar"],
                type=_FILE if field.metadata["metavar"] == "FILE" else None,
                multiple=field.metadata["repeatable"],
                help=_help(name, field),
            )
            for name, field in options(config).items()
        ]
        file = click.Option(
            ["--config", "config_file"],
            metavar="FILE",
            type=_FILE,
            help="TOML file of these settings, underscores for dashes.  [env: FANOUT_CONFIG]",
        )
        super().__init__(
            params=[*settings, file, *params],
            context_settings={"max_content_width": 100},
            **attributes,
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options under their headings."""
        heading = {name: title for title, group in self._groups.items() for name in group}
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in self._groups}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None and record[1]:
                title = heading.get(parameter.name or "", "General")
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Service(Configured, click.Group):
    """A command that runs a service when it is called without a subcommand."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(invoke_without_command=True, **attributes)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Speak of subcommands only where there are some."""
        return super().collect_usage_pieces(ctx) if self.commands else [self.options_metavar or ""]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options under their headings, then the subcommands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a subcommand; a URL in its place is not repeated with its password."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(mask(error.message)[1:-1], ctx) from None


def variable(name: str) -> str:
    """Return the environment's name of a setting."""
    return f"FANOUT_{name.upper()}"


def gather(config: type[C], flags: Mapping[str, Any], config_file: str | None) -> C:
    """Build the configuration from all its sources. Raises ConfigError naming the source."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    _refuse_secrets(config, {**given, "config": config_file or ""})
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    if path := config_file or os.environ.get("FANOUT_CONFIG"):
        for name, value in read_toml("config", path).items():
            if config not in _WHOLE and name in _KNOWN and name not in options(config):
                continue  # subcommands may share one file, also with the services
            values[name], sources[name] = value, f"{name} in file {path}"
    for name in options(config):
        if (text := os.environ.get(variable(name))) is not None:
            values[name], sources[name] = text, f"environment variable {variable(name)}"
    for name, value in given.items():
        values[name], sources[name] = value, f"flag --{flag(name)}"
    try:
        default = {"id": _default_id()} if "id" in options(config) else {}
        return config.from_mapping({**default, **values})
    except SettingError as error:
        blamed = " and ".join(sources[name] for name in error.names if name in sources)
        raise ConfigError(f"{error} (from {blamed})" if blamed else str(error)) from None


def checked(read: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a callback for an argument, or for each of several, that `fanout.config` reads."""

    def convert(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return tuple(map(read, value)) if isinstance(value, tuple) else read(value)
        except ConfigError as error:
            raise click.BadParameter(str(error), context, parameter) from None

    return convert


def configured(config: type[C], flags: Mapping[str, Any], config_file: str | None) -> C:
    """Gather the configuration, or report what is wrong with it and end with exit code 2."""
    try:
        return gather(config, flags, config_file)
    except ConfigError as error:
        refuse(str(error))


def refuse(why: str) -> NoReturn:
    """Say what is wrong with how the command was called, and end with exit code 2."""
    click.echo(f"Error: {why}", err=True)
    sys.exit(2)


GC_OBJECTS = 20_000
"""New objects before the collector looks for cycles. Python's 700 cost an eighth of the CPU under
load, for next to nothing: what is made for a message is in no cycle."""


def run(main: Callable[[], Awaitable[int]], service: Logged | None = None) -> NoReturn:
    """Run `main` and end the process with its exit code; errors become one line each.

    Only a `service`, which is named by its configuration, logs, reports to Sentry, and takes
    SIGTERM by itself. Anything else is ended by it as by Ctrl-C, and so takes back what it began.
    """
    import trio  # noqa: PLC0415 - a wrong setting is reported before the runtime is loaded

    from fanout.runtime.process.logs import configure_logging  # noqa: PLC0415 - likewise

    if service is None:
        configure_logging("critical", "auto")
    else:
        configure_logging(service.log_level, service.log_format, *_reporters(service))
    gc.freeze()  # what was imported lives as long as the process
    gc.set_threshold(GC_OBJECTS)
    try:
        code = trio.run(main if service else partial(_until_terminated, main))
    except BaseException as error:
        found = leaves(error)
        if not all(isinstance(leaf, FanoutError | KeyboardInterrupt) for leaf in found):
            raise
        unread = any(isinstance(leaf, OutputFailed) and leaf.closed for leaf in found)
        failures = [leaf for leaf in found if isinstance(leaf, FanoutError) and not unread]
        for failure in failures:
            click.echo(f"Error: {escape(' '.join(str(failure).split()))}", err=True)
        code = 1 if failures else UNREAD if unread else INTERRUPTED
        if any(isinstance(failure, ConfigError) for failure in failures):
            code = 2
    sys.exit(code)


async def _until_terminated(main: Callable[[], Awaitable[int]]) -> int:
    import trio  # noqa: PLC0415 - as above

    async def listen(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                raise KeyboardInterrupt

    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        code = await main()
        nursery.cancel_scope.cancel()
    return code


@contextmanager
def needing(*modules: str, why: str, extra: str) -> Iterator[None]:
    """Import in the block what an extra brings; without it say how to get it, and end with 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in modules:
            raise
        refuse(f"{why}; pip install 'fanout[{extra}]'")


def _reporters(service: Logged) -> list[Any]:
    """Start Sentry where the environment asks for it; return what reports to it."""
    dsn = os.environ.get("SENTRY_DSN")
    if not dsn:
        return []
    with needing(
        "sentry_sdk", "structlog_sentry", why="SENTRY_DSN needs Sentry's SDK", extra="sentry"
    ):
        from fanout.runtime.process.sentry import start_sentry  # noqa: PLC0415 - seldom there
    try:
        return [start_sentry(dsn, secrets_of(service), release=fanout.__version__)]
    except ConfigError as error:
        refuse(str(error))


def _help(name: str, field: Any) -> str:
    shown = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    default = "" if field.default in (None, "", ()) else f"; default: {shown}"
    only = ", not as a flag" if field.metadata["secret"] else ""
    return f"{field.metadata['help']}  [env: {variable(name)}{only}{default}]"


def _refuse_secrets(config: type, given: Mapping[str, str | tuple[str, ...]]) -> None:
    """Refuse passwords in any flag: also in one that would not take a URL."""
    known = options(config)
    for name, value in given.items():
        secret = name in known and known[name].metadata["secret"]
        for text in (value,) if isinstance(value, str) else value:
            if secret or any(re.search(r"//[^@]*:.*@", url, re.DOTALL) for url in split_urls(text)):
                raise ConfigError(
                    f"{flag(name)}: a password on the command line can be read by every user of "
                    f"this machine; give it in {variable(name)} or in a file by --config "
                    f"(from flag --{flag(name)})"
                )


def _default_id() -> str:
    host = re.sub(r"[^A-Za-z0-9]+", "-", os.uname().nodename)[:HOST_CHARACTERS_MAX].strip("-")
    return f"{host or 'host'}-{os.getpid()}"
