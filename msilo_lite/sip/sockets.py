"""Sockets of the door, made and bound: listeners, the link to PJSIP, connections to others; and errors in words."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address

from ..errors import SipError
from ..seeing.logs import logger
from .address import Endpoint, Remote
from .connection import Connection
from .outward import MOST

log = logger(__name__)

HANDSHAKE = 10.0
"Seconds for a TLS handshake, and for a connection of ours to be made."
BACKLOG = 512
OTHER_FILES = 128
"Descriptors of the database, of PJSIP, of commands that are run."
LINK_BUFFER = 1 << 20
"Bytes asked for each buffer of the link; the kernel gives what it may."
STREAM_BUFFER = 1 << 16
"Bytes of each buffer of a client's connection: by itself the kernel keeps megabytes for one that does not read."


def room_for(clients: int) -> int:
    """As many clients as descriptors can be had for, beside those of everything else."""
    others = MOST + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = clients + others if hard == resource.RLIM_INFINITY else min(hard, clients + others)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < clients + others:
        log.warning("door.few_descriptors", descriptors=hard, tcp_clients=clients)
    return min(clients, max(64, most - others))


def link_socket(backend: Endpoint) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, buffer, LINK_BUFFER)
    sock.bind((backend.host, 0))
    sock.connect((backend.host, backend.port))
    return sock


def listen_all(binds: tuple[Endpoint, ...]) -> list[socket.socket]:
    """A listening socket for each. Raises SipError."""
    made: list[socket.socket] = []
    try:
        made.extend(map(_listen, binds))
    except SipError:
        for sock in made:
            sock.close()
        raise
    return made


def _listen(bind: Endpoint) -> socket.socket:
    six = ":" in bind.host
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # handed on to each connection
            sock.setsockopt(socket.SOL_SOCKET, buffer, STREAM_BUFFER)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((bind.host, bind.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise SipError(f"cannot listen on {bind}: {words_of(error)}; name another address with --bind") from error
    return sock


async def connect(
    remote: Remote,
    source_for: Callable[[int], str | None],
    context: ssl.SSLContext | None,
    arrived: Callable[[str], Connection],
) -> Connection:
    """A connection to there: from `source_for(family)`, with TLS where there is a context.

    Raises OSError with words for the operator.
    """
    try:
        async with asyncio.timeout(HANDSHAKE):
            found = await asyncio.get_running_loop().getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
            error = OSError("it has no address")
            for family, _, _, _, address in found[:3]:
                try:
                    sock = await _connected(family, address, source_for(family))
                    return await _welcomed(sock, remote, context, arrived(str(address[0])))
                except OSError as failed:
                    error = failed
            raise error
    except TimeoutError as late:
        raise OSError(f"no connection within {HANDSHAKE:g} s") from late
    except OSError as failed:
        raise OSError(words_of(failed)) from failed


async def _connected(family: int, address: tuple[object, ...], source: str | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if source and _loops(source) <= _loops(str(address[0])):  # from loopback nothing else can be reached
            sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _loops(host: str) -> bool:
    return ip_address(host.partition("%")[0]).is_loopback


async def _welcomed(
    sock: socket.socket, remote: Remote, context: ssl.SSLContext | None, connection: Connection
) -> Connection:
    """asyncio owns the socket from here on, and closes it where TLS fails."""
    loop = asyncio.get_running_loop()
    if context:
        await loop.create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=remote.name)
    else:
        await loop.create_connection(lambda: connection, sock=sock)
    return connection


def words_of(error: BaseException) -> str:
    """An error for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)  # asyncio has words of its own, with the address in them
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
