"""Every frame of the websocket protocol, checked against its published schema."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "websocket.schema.json").read_text())


def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{name}"}]})


SENT = _validator("sent")
RECEIVED = _validator("received")


def received(text: str | bytes) -> Any:
    """Return what a client received, once it fits the schema."""
    frame = json.loads(text)
    RECEIVED.validate(frame)
    return frame


def sent(request: Any) -> str:
    """Return the text of a request that fits the schema."""
    SENT.validate(request)
    return json.dumps(request)
