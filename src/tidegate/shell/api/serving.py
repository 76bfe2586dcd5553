"""Serving: uvicorn in this process and this thread, until told to stop.

TLS is not ours here: a proxy in front ends it, so listening beyond loopback must be asked for.
"""

import errno
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from litestar import Litestar
from litestar.concurrency import set_asyncio_executor

from tidegate.base.address import is_loopback
from tidegate.base.errors import AskedWrongly

THREADS = 64  # handlers at a time: the commit writer batches what they bring together
GRACE_SECONDS = 3  # for calls in flight when told to stop
MOST_CONNECTIONS = 1_000  # beyond it: 503, before any of our code
BACKLOG = 256
STOPPING = (signal.SIGTERM, signal.SIGINT)


def serve(
    app: Litestar,
    host: str,
    port: int,
    on_stop: Callable[[], None],
    *,
    on_start: Callable[[str, int], None] | None = None,
    allow_remote: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, then call `on_stop`. For the main thread.

    Args:
        app: made by `make_app`.
        host: where to listen; loopback unless `allow_remote`.
        port: 0 for a free one, told to `on_start`.
        on_stop: stops the worker and closes the store; called whatever ends the serving.
        on_start: called with host and port once the socket accepts connections.
        allow_remote: that TLS is ended by something in front of us.
        stopped: whether a signal came before this listens for them; it then stops at once.

    Raises:
        AskedWrongly: not a loopback address, or the address cannot be had.
    """
    try:
        sock = listen(host, port, allow_remote=allow_remote)
        server = uvicorn.Server(_config(app))

        def stop(_number: int, _frame: object) -> None:
            # Before uvicorn listens for signals, and when it raises a caught one again at the end.
            server.should_exit = True

        before = {number: signal.signal(number, stop) for number in STOPPING}
        try:
            if stopped():
                return
            with sock, ThreadPoolExecutor(THREADS, thread_name_prefix="tidegate-api") as pool:
                set_asyncio_executor(pool)
                if on_start is not None:
                    on_start(host, sock.getsockname()[1])
                server.run(sockets=[sock])
        finally:
            set_asyncio_executor(None)
            for number, handler in before.items():
                signal.signal(number, handler)
    finally:
        on_stop()


def listen(host: str, port: int, *, allow_remote: bool = False) -> socket.socket:
    """A listening socket. Raises AskedWrongly: not loopback, no such address, or taken."""
    if not allow_remote and not is_loopback(host):
        raise AskedWrongly(
            "not_loopback",
            f"expected a loopback address to listen at, got `{host[:60]}`",
            "put a TLS proxy in front of 127.0.0.1, or allow it on purpose",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as fault:
        taken = isinstance(fault, OSError) and fault.errno == errno.EADDRINUSE
        why = "is taken" if taken else "cannot be had"
        raise AskedWrongly(
            "cannot_listen", f"expected a free address, `{host[:60]}:{port}` {why}", "try another"
        ) from fault


def _config(app: Litestar) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        # uvicorn would take the peer from X-Forwarded-*; whose word counts is the door's to decide.
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
