"""Serving the dashboard: threads, no debugger, no reloader, loopback unless told otherwise."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from dash import Dash
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from bitfront.spaces.errors import BitfrontError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class ServerError(BitfrontError):
    """The dashboard cannot listen where it should."""


class _Quiet(WSGIRequestHandler):
    """A page that refreshes itself would fill the log with its requests."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: errors come by ``log``."""


def bind(app: Dash, host: str = LOOPBACK[0], port: int = 8050) -> BaseWSGIServer:
    """Take an address for a dashboard; ``serve_forever`` of the result answers requests.

    On a loopback address only requests to a loopback name are answered, so that no page of another
    site reaches the dashboard by a name that it makes resolve to this machine.

    Args:
        app: Of ``create_app``.
        host: Name or address to listen on.
        port: 0 takes a free one.

    Raises:
        ServerError: If the address is taken or is none of this machine.
    """
    if not 0 <= port <= 65535:
        raise ServerError(f"A port must be 0 to 65535, but is {port}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ServerError(
            f"The dashboard cannot listen on {host}:{port} ({reason}): give another --host or "
            "--port."
        ) from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with listening:
        # the server works on a duplicate of the socket
        return make_server(
            host,
            listening.getsockname()[1],
            _loopback_only(app.server) if host in LOOPBACK else app.server,
            threaded=True,
            request_handler=_Quiet,
            fd=listening.fileno(),
        )


def _loopback_only(wsgi: WSGIApplication) -> WSGIApplication:
    def guarded(environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        try:
            name = urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname
        except ValueError:
            name = None
        if name in LOOPBACK:
            return wsgi(environ, respond)
        respond("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"This dashboard answers to {', '.join(LOOPBACK)} only.\n".encode()]

    return guarded


def address_of(server: BaseWSGIServer) -> str:
    """URL of a bound server."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}/"


def serve(
    app: Dash,
    host: str = LOOPBACK[0],
    port: int = 8050,
    *,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve a dashboard until Ctrl-C.

    Args:
        app: Of ``create_app``.
        host: Name or address to listen on.
        port: 0 takes a free one.
        ready: Is told the URL once the dashboard listens.

    Raises:
        ServerError: If the address is taken or is none of this machine.
    """
    server = bind(app, host, port)
    try:
        if ready is not None:
            ready(address_of(server))
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
