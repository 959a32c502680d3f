"""How both ends of every gRPC connection are set up, and where gRPC's errors become ours and back.

The options exist because the defaults fail us, each seen on grpc 1.85: messages over 4 MiB fail; a server
answers frequent keepalive pings with GOAWAY; a channel waits up to two minutes before it dials again.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import grpc.aio

from common.errors import SampanError, code_of, from_status
from common.limits import MAX_MESSAGE_BYTES

_KEEPALIVE_MS = 5_000
# A server learns little by its own pings: nodes are judged by their heartbeats, and the clients' pings keep the path
# open. As often as theirs, they would be half of what a thousand idle nodes cost.
_SERVER_KEEPALIVE_MS = 20_000
_KEEPALIVE_TIMEOUT_MS = 5_000

Options = list[tuple[str, Any]]

_BOTH: Options = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


CHANNEL_OPTIONS: Options = [
    *_BOTH,
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also the least time a dial may take: shorter, and a slow link never connects.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Without it, channels of one process to one address share a connection: a rebuilt channel would get
    # the broken one back, and a thousand simulated nodes would queue behind one HTTP/2 connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]

SERVER_OPTIONS: Options = [
    *_BOTH,
    ("grpc.keepalive_time_ms", _SERVER_KEEPALIVE_MS),
    # Leave to ping as often as our clients do.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    # A second master on the same port must fail, not share it silently.
    ("grpc.so_reuseport", 0),
]


def open_channel(target: str) -> grpc.aio.Channel:
    """A plaintext channel to `target` (host:port); nothing is dialled before the first call."""
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


def translate(error: grpc.RpcError) -> SampanError:
    """Our error for what a call raised."""
    if isinstance(error, grpc.aio.AioRpcError):
        return from_status(error.code(), error.details())
    return SampanError(str(error))


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: SampanError) -> NoReturn:
    """Ends a server's call with the status of `error`; never returns."""
    await context.abort(code_of(error), str(error))
    raise AssertionError("abort returned")
