"""A file of users."""

import json
from pathlib import Path

from fanout.core.access import digest


def users_file(folder: Path, **lists: list[str]) -> str:
    """Write a file with the user `u`, whose secret is `s`."""
    lists = {"publish": ["*"], "subscribe": ["*"], "psubscribe": ["*"], **lists}
    path = folder / "users.toml"
    lines = [f"{name} = {json.dumps(values)}" for name, values in lists.items()]
    path.write_text("\n".join(["[users.u]", f'secrets = ["{digest(b"s")}"]', *lines]))
    return str(path)
