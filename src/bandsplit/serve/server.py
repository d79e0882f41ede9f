"""Start and end of the server."""

from __future__ import annotations

import errno
import ipaddress
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from bandsplit.core.errors import ConfigError
from bandsplit.serve.app import make_app
from bandsplit.serve.dispatcher import Dispatcher
from bandsplit.serve.jobs import Jobs
from bandsplit.serve.offers import Offers, find_offers
from bandsplit.serve.service import Limits, Service

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,200}")
_WAIT_S = 0.5


@dataclass(frozen=True)
class ServerConfig:
    """Settings of a server."""

    folder: Path
    """Folder of jobs."""
    models: Sequence[str]
    """Models that are offered next to those in the cache."""
    host: str
    port: int
    """Port; 0 for any that is free."""
    token: str | None
    """Secret that clients must know."""
    device: str
    limits: Limits


def run_server(config: ServerConfig, say: Callable[[str], None]) -> None:
    """Serve until a signal arrives.

    Args:
        config: the settings.
        say: called with lines for the user, the address last.

    Raises:
        ConfigError: the address cannot be used, or needs a token; the folder cannot be used.
        ModelFileError: a model cannot be used.
        KeyboardInterrupt: the signal.
    """
    is_local = _check_token(config)
    with _socket(config.host, config.port) as listening:
        offers = find_offers(config.models, config.device, say)
        jobs = Jobs(config.folder)
        try:
            prices = config.folder / "prices.json"
            dispatcher = Dispatcher(jobs, Offers(offers, prices), config.device, config.limits.keep_free_bytes)
            service = Service(jobs, dispatcher.offers, dispatcher, config.limits, config.token)
            # With a token, a page elsewhere that has its name point here lacks the cookie.
            names = frozenset({*_LOOPBACK_NAMES, config.host}) if is_local and config.token is None else None
            app = uvicorn.Config(
                make_app(service, names), log_level="warning", access_log=False, lifespan="off", ws="none",
                server_header=False, proxy_headers=False, timeout_graceful_shutdown=2,
            )  # fmt: skip
            with _running(uvicorn.Server(app), listening, service) as thread:
                say(_address(config, listening))
                while thread.is_alive():
                    thread.join(_WAIT_S)
        finally:
            jobs.close()


@contextmanager
def _running(server: uvicorn.Server, listening: socket.socket, service: Service) -> Iterator[threading.Thread]:
    """Answer requests in a thread and work off the queue in another, in the block."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server", daemon=True)
    try:
        service.dispatcher.start()
        thread.start()
        yield thread
    finally:
        service.closing.set()
        server.should_exit = True
        service.dispatcher.close()
        thread.join()


def _check_token(config: ServerConfig) -> bool:
    """Return whether the address is of this machine alone.

    Raises:
        ConfigError: it is not, and there is no token; or the token is not one.
    """
    try:
        is_local = config.host == "localhost" or ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        is_local = False
    if config.token is None and not is_local:
        raise ConfigError(
            f"--host {config.host}: other machines can reach this address, so it needs a token: --token "
            f"{secrets.token_urlsafe(18)} (this one is random), or BANDSPLIT_TOKEN in the environment"
        )
    if config.token is not None and not _TOKEN.fullmatch(config.token):
        raise ConfigError("--token: is not a token; legal: 16 to 200 letters, digits and . _ ~ -")
    return is_local


def _socket(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        ConfigError: another program uses it, or this machine does not have the address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"--port {port}: is in use by another program; choose another, or 0 for any that is free"
            ) from None
        if error.errno == errno.EACCES:
            raise ConfigError(f"--port {port}: needs rights that you lack; choose one above 1023") from None
        raise ConfigError(
            f"--host {host}: is not an address of this machine ({error.strerror}); choose 127.0.0.1 for this machine "
            f"alone, or 0.0.0.0 for all its addresses"
        ) from None


def _own_address(family: int) -> str:
    """Return an address of this machine that others can open, as far as the machine itself knows."""
    is_6 = family == socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        # Chooses the network interface; nothing is sent. The addresses are for documentation and belong to nobody.
        probe.connect(("2001:db8::1" if is_6 else "192.0.2.1", 9))
        return probe.getsockname()[0]
    with suppress(OSError):
        return str(socket.getaddrinfo(socket.gethostname(), None, family)[0][4][0])
    return "::1" if is_6 else "127.0.0.1"  # without a network


def _address(config: ServerConfig, listening: socket.socket) -> str:
    host = listening.getsockname()[0]
    host = _own_address(listening.family) if ipaddress.ip_address(host).is_unspecified else config.host
    host = f"[{host}]" if ":" in host else host
    page = f"http://{host}:{listening.getsockname()[1]}/"
    return page if config.token is None else f"{page}#token={config.token}"
