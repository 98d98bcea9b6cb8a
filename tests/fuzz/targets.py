"""The targets by name, with the inputs that a run begins with and words it may try."""

from collections.abc import Callable
from itertools import product

import attrs

from fanout.values.control import BarrierReached, End, OrderBarrier
from fanout.values.names import NodeId, SidecarId
from fanout.values.records import Identity
from fanout.wire import census, records
from fanout.wire.redis.client import pack
from fanout.wire.resp.command_table import COMMANDS
from fanout.wire.ws import bridge_frames
from tests.fuzz.peers import peers
from tests.fuzz.resp import resp
from tests.fuzz.websocket import websocket
from tests.support.wire.rfc6455 import HANDSHAKE, frame, header

HEAD = b"%c\0\3\0\7\0\x1d"
"""Options and places to cut at; see `tests.fuzz.given`."""


@attrs.frozen
class Target:
    """A function of bytes that raises when a promise is broken."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]


_SCRIPTS = (
    b"HELLO 3 AUTH u s SETNAME me\nSUBSCRIBE s1 s2\nPSUBSCRIBE s* t*\nSSUBSCRIBE s\nPING",
    b"AUTH d\nMULTI\nPUBLISH c x\nCOMMAND\nINFO\nSUBSCRIBE a b\nCLIENT REPLY SKIP\nTIME\nEXEC",
    b"PUBSUB NUMSUB a b\nPUBSUB CHANNELS a*\nPUBSUB SHARDNUMSUB\nPUBSUB NUMPAT\nPUBSUB HELP",
    b"CLIENT KILL ID 1 SKIPME no\nCLIENT LIST TYPE pubsub\nCLIENT INFO\nCLIENT KILL 127.0.0.1:2",
    b"CONFIG GET max* save\nCOMMAND INFO client get\nCOMMAND DOCS ping\nINFO server clients",
    b"SUBSCRIBE a\nRESET\nUNSUBSCRIBE\nSUNSUBSCRIBE a\nSELECT 0\nECHO x\nWATCH k\nDISCARD\nQUIT",
    b"CLIENT SETNAME a\nCLIENT GETNAME\nCLIENT NO-EVICT on\nCLIENT SETINFO a b\nCLIENT LIST ID 1 2",
    b"CLIENT ID\nCLIENT HELP\nCLIENT KILL ADDR a LADDR b USER default TYPE normal\nCONFIG HELP",
    b"COMMAND COUNT\nCOMMAND LIST\nCOMMAND HELP\nHELLO 2\nUNWATCH\nPUBSUB SHARDCHANNELS",
    b"AUTH u s\nMULTI\nSSUBSCRIBE s\nAUTH d\nSUBSCRIBE s\nPUBLISH p x\nEXEC\nPUNSUBSCRIBE",
    b"publish c x\nSPUBLISH c x\nCLIENT REPLY OFF\nPING\nCLIENT REPLY ON\nnope 1 2\nCLIENT nope",
)
_LINES = (
    b"PING\r\nAUTH u s\r\n*0\r\n*-1\r\nQUIT\r\n",
    b"GET / HTTP/1.1\r\n",
    b"*3\r\n$7\r\nPUBLISH\r\n$101\r\n",
    b"*1\r\n$99999999999999999999\r\n",
)
_FRAMES = (
    b'\x81{"op":"auth","token":"s","id":1}\n\x81{"op":"publish","channel":"p","data":"x"}',
    b'\x81{"op":"subscribe","channels":["s","s2"],"id":"a"}\n\x81{"op":"unsubscribe","id":null}',
    b'\x81{"op":"psubscribe","patterns":["s*"],"id":[1]}\n\x81{"op":"punsubscribe"}\n\x89x\n\x8a',
    b'\x01{"op":"publish","channel":"p",\n\x89\n\x80"data_base64":"eA=="}\n\x88\x03\xe8bye',
    b"\x82\x01\x00\x01px\n\x82\x02\0\0\0\7\0\1px\n\x02\x01\n\x00\n\x80\0",
)
_HEADS = (
    HANDSHAKE,
    HANDSHAKE.replace(b"Host: h", b"Host: h:80\r\nOrigin: https://a\r\nAuthorization: Bearer s"),
    HANDSHAKE.replace(
        b"Host: h", b"Host: [::1]\r\nSec-WebSocket-Protocol: fanout.v1.json, fanout.token.cw"
    ),
)


def _record_seeds() -> list[bytes]:
    node = (
        b'{"cluster":"c","node":"n","incarnation":1,"version":2,"owner":"o","state":"active",'
        b'"endpoint":"[::1]:6379","run_id":"r","lease_seconds":10,"fence":"acl","tls":true,"x":[1e9]}'
    )
    sidecar = (
        b'{"cluster":"c","sidecar":"s","incarnation":1,"version":2,"lease_seconds":0.5,'
        b'"covered":{"n":1},"stopped":{},"deaf":{"m":2},"gone":false,"protocol_max":2}'
    )
    identity = records.encode_record(
        Identity(cluster="c", node=NodeId("n"), incarnation=1, run_id="r")
    )
    controls = (
        End(NodeId("n"), 1),
        OrderBarrier(SidecarId("s"), 2),
        BarrierReached(3),
    )
    return [
        *(b"\0" + node, b"\1" + sidecar, b"\2" + identity),
        b'\3{"cluster":"c","node":"n","incarnation":1,"force":true}',
        *(b"\4" + records.encode_control(each) for each in controls),
        b'\4{"type":"deaf","sidecar":"s","nodes":{"n":1}}',
        b'\5{"sidecar":"s","number":1,"space":"channels","glob":"a*"}',
        b'\5{"sidecar":"s","number":1,"space":"shards","names":["a","\\u00ff"]}',
        *(b"\6" + each for each in census.encode_answer(SidecarId("s"), 1, {b"a": 1, b"\xff": 2})),
        b'\7{"type":"hello","protocol":1,"limits":{"names":1024}}',
        *(
            b"\7" + made[2:]
            for made in (
                bridge_frames.message_frames(b"c", [b"\xff"]),
                bridge_frames.pmessage_frames(b"p\xff", [(b"\xff", b"x")]),
                bridge_frames.gap_frame("n", "lost"),
                bridge_frames.error_frame(b"1", "bad_json", "x"),
            )
        ),
    ]


def _resp_seeds() -> list[bytes]:
    packed = b"".join(pack(*line.split(b" ")) for line in _SCRIPTS[0].split(b"\n"))
    scripts = [HEAD % (options | 4) + each for options, each in product(range(4), _SCRIPTS)]
    return scripts + [
        HEAD % options + each for options in (0, 1, 2, 129) for each in (*_LINES, packed)
    ]


def _websocket_seeds() -> list[bytes]:
    raw = (frame(1, b"{}"), header(1, 2**63), header(2, 401), frame(1, b"\xff"), b"\x81\x01x")
    return [
        *(HEAD % (options | 6) + each for options, each in product((0, 1, 128), _FRAMES)),
        *(HEAD % options + each for options, each in product((0, 1, 8, 128), _HEADS)),
        *(HEAD % 2 + each for each in raw),
    ]


_JSON = (b'":"', b'":[', b'","', b'":{', b"null", b"true", b"1e999", b"NaN", b"\\ud800", b"\\u0000")
_FIELDS = (
    *(b"op", b"auth", b"token", b"publish", b"subscribe", b"psubscribe", b"unsubscribe", b"ping"),
    *(b"channel", b"channels", b"patterns", b"data", b"data_base64", b"id", b"punsubscribe"),
)
_HEADERS = (
    *(b"Host: ", b"Origin: ", b"Sec-WebSocket-Protocol: ", b"Sec-WebSocket-Extensions: "),
    *(b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Version: 13", b"Upgrade: ", b"Connection: "),
    *(b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Authorization: Bearer ", b"\r\n\r\n"),
    *(b"fanout.v1.json", b"fanout.token.", b"permessage-deflate", b"https://a"),
)

TARGETS = {
    "resp": Target(
        resp,
        tuple(_resp_seeds()),
        (
            *(b"\r\n", b"*3\r\n", b"$7\r\n", b"\n", b"SKIPME", b"SETNAME", b"OFF", b"SKIP"),
            *dict.fromkeys(word for name in COMMANDS for word in name.upper().split(b"|")),
        ),
    ),
    "websocket": Target(
        websocket,
        tuple(_websocket_seeds()),
        (
            *_JSON,
            *_FIELDS,
            *_HEADERS,
            b"\n\x81",
            b"\n\x82\1\0",
            b"\n\x89",
            b"\n\x88\3\xe8",
            b"\n\1",
        ),
    ),
    "peers": Target(
        peers,
        tuple(_record_seeds()),
        (
            *_JSON,
            *(b"unix:/", b"[[", b"9223372036854775808", b"extra", b"parts", b"counts", b"space"),
            *(b"patterns", b"draining", b"cooperative", b"type", b"message", b"protocol_min"),
        ),
    ),
}
