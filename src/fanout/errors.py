"""Every exception fanout raises on purpose; all derive from `FanoutError`."""


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions that a group consists of, however deep; of any other, itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in leaves(each)]


def root_of(error: BaseException) -> str:
    """Return what the system, or TLS, said of an error that others wrapped."""
    while error.__cause__ is not None:
        error = leaves(error.__cause__)[0]
    return getattr(error, "strerror", None) or str(error) or repr(error)


class FanoutError(Exception):
    """Base of all fanout errors; never raised itself."""


class CodedError(FanoutError):
    """An error with a stable `code` beside its message; each kind says where its codes are listed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(FanoutError):
    """A setting is wrong. The message names the setting, the value and what is allowed.

    Raised while configuration is read, before anything is started. The commands print the
    message and exit with code 2.
    """


class LocalProtocolError(FanoutError):
    """This process used a protocol machine wrongly; a bug on our side of the wire."""


class RemoteProtocolError(FanoutError):
    """A peer broke its protocol.

    `reply` holds the bytes to send it before the connection is closed; it may be empty.
    """

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message)
        self.reply = reply


class LinkLost(FanoutError):  # noqa: N818 - a fact of the network, named like the log event
    """A connection to a Redis ended.

    Handed to every command that was still unanswered. `written` tells whether any byte that
    completes the command may have reached Redis: False means it was certainly not executed,
    True means nobody can know.
    """

    def __init__(self, reason: str, *, written: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.written = written


class CommandFailed(FanoutError):  # noqa: N818 - Redis answered; the failure is the answer
    """Redis answered a command with an error. `code` is its first word, such as `NOPERM`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.split(" ", 1)[0]


class RegistryUnavailable(FanoutError):  # noqa: N818 - a state of discovery, not a bug
    """No discovery Redis could be reached for the operation."""


class SettingError(ConfigError):
    """A wrong setting, by name: `names` are the settings the message is about, underscored."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


class RequestFailed(FanoutError):  # noqa: N818 - the sidecar answered; the failure is the answer
    """A sidecar refused a request of `fanout.client`, or what became of it is not known.

    `code` is stable; docs/websocket.md lists the codes.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class OutputFailed(FanoutError):  # noqa: N818 - a fact
    """Standard output takes nothing any more. `closed` tells that its reader has only left."""

    def __init__(self, message: str, *, closed: bool = False) -> None:
        super().__init__(message)
        self.closed = closed


class FeedLost(FanoutError):  # noqa: N818 - a fact
    """The live feed of a sidecar's admin door did not come about, or ended."""
