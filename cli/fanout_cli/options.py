"""Commands with the options of a configuration, and the way they run and end.

The options are defined in `fanout.config`: one added there has a flag, an environment variable, a
key of the file and a line of help.
"""

import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

import click

import fanout
from fanout.config import Configuration, flag, groups, mask, options, renamed, secrets_of
from fanout.errors import ConfigError, FanoutError, OutputFailed, leaves
from fanout.runtime.process.text import escape
from fanout_cli.sources import gather, variable

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells: 128 plus the number of the signal."""

UNREAD = 141
"""Exit code when stdout is closed (broken pipe): 128 plus the number of SIGPIPE."""

AS_JSON = "Print one JSON object."
"""Help of the flag --json."""

_RENAMED_USED = "fanout.renamed"
"""Key in the `meta` of click's context: former names that were used, each with its current name."""


class Logged(Protocol):
    """The logging options of a service."""

    @property
    def log_level(self) -> str:
        """The lowest level that is logged."""

    @property
    def log_format(self) -> str:
        """The format of the log."""


_FILE = click.Path()
"""Makes the shell complete file names; the code that opens the file checks that it exists."""

C = TypeVar("C", bound=Configuration)


class Configured(click.Command):
    """A command whose options are those of a configuration."""

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
        former = [
            click.Option([f"--{flag(name)}", name], multiple=known["repeatable"], hidden=True)
            for name, now in renamed(config).items()
            for known in (options(config)[now].metadata,)
        ]
        file = click.Option(
            ["--config", "config_file"],
            metavar="FILE",
            type=_FILE,
            help="TOML file of these options, with underscores for dashes.  [env: FANOUT_CONFIG]",
        )
        super().__init__(
            params=[*settings, *former, file, *params],
            context_settings={"max_content_width": 100},
            **attributes,
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each under its heading."""
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
        """Return the pieces of the usage line, without COMMAND if there are no subcommands."""
        return super().collect_usage_pieces(ctx) if self.commands else [self.options_metavar or ""]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each under its heading, then the subcommands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand. The error for an unknown one masks a password in it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(mask(error.message)[1:-1], ctx) from None


def checked(read: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a callback that parses an argument, or each of several, with `read`."""

    def convert(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return tuple(map(read, value)) if isinstance(value, tuple) else read(value)
        except ConfigError as error:
            why = str(error).removeprefix("invalid value ")  # click says so itself
            raise click.BadParameter(why, context, parameter) from None

    return convert


def configured(config: type[C], flags: Mapping[str, Any], config_file: str | None) -> C:
    """Return the configuration from all sources; print an error and exit with 2 if it is invalid.

    An option that is given by its former name is accepted with a warning on stderr.
    """
    used = click.get_current_context().meta.setdefault(_RENAMED_USED, [])

    def warn(former: str, now: str, source: str) -> None:
        used.append((former, now))
        click.echo(
            f"Warning: {flag(former)} is now {flag(now)}; the former name will be removed in the "
            f"next release (from {source})",
            err=True,
        )

    try:
        return gather(config, flags, config_file, warn)
    except ConfigError as error:
        refuse(str(error))


def refuse(why: str) -> NoReturn:
    """Print an error about the arguments of the command and exit with 2."""
    click.echo(f"Error: {why}", err=True)
    sys.exit(2)


GC_OBJECTS = 20_000
"""Threshold of the garbage collector. Python's default of 700 takes an eighth of the CPU under load
and frees next to nothing: the objects made for a message form no reference cycles."""


def run(main: Callable[[], Awaitable[int]], service: Logged | None = None) -> NoReturn:
    """Run `main` and exit with its exit code; print one line for each error.

    `service` is the configuration of a service: only a service logs, reports to Sentry and handles
    SIGTERM itself. In any other command SIGTERM has the effect of Ctrl-C, so that it cleans up.
    """
    import trio  # noqa: PLC0415 - an invalid option is reported before the runtime is loaded

    from fanout.runtime.process.logs import configure_logging, log  # noqa: PLC0415 - likewise

    if service is None:
        configure_logging("critical", "auto")
    else:
        configure_logging(service.log_level, service.log_format, *_reporters(service))
    for former, now in click.get_current_context().meta.get(_RENAMED_USED, ()):
        log.warning("option_renamed", former=flag(former), now=flag(now))
    gc.freeze()  # imported modules live as long as the process
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
    """Import the modules of an extra in this block; if one is missing, print how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in modules:
            raise
        refuse(f"{why}; pip install 'fanout[{extra}]'")


def _reporters(service: Logged) -> list[Any]:
    """Start Sentry if SENTRY_DSN is set; return the log processors that report to it."""
    dsn = os.environ.get("SENTRY_DSN")
    if not dsn:
        return []
    with needing(
        "sentry_sdk", "structlog_sentry", why="SENTRY_DSN requires Sentry's SDK", extra="sentry"
    ):
        from fanout.runtime.process.sentry import start_sentry  # noqa: PLC0415 - an extra
    try:
        return [start_sentry(dsn, secrets_of(service), release=fanout.__version__)]
    except ConfigError as error:
        refuse(str(error))


def _help(name: str, field: Any) -> str:
    shown = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    default = "" if field.default in (None, "", ()) else f"; default: {shown}"
    only = ", not as a flag" if field.metadata["secret"] else ""
    former = field.metadata["formerly"]
    note = f"; formerly --{flag(former)}" if former else ""
    return f"{field.metadata['help']}  [env: {variable(name)}{only}{default}{note}]"
