"""The few SIP texts the benchmark sends, and the few places it looks at in what comes back.

Not a parser: every request here is our own, so Call-ID and body carry the numbers we want to read again.
"""

from __future__ import annotations

import re
import socket

DOMAIN = "bench.lan"
HOST = "127.0.0.1"
BODY_SIZE = 120
PACKET = 65536

_TAGS = re.compile(rb"seq=(\d+) user=(\d+)")
_TARGET = re.compile(rb"MESSAGE sip:u(\d+)@")
_CONTACT_PORT = re.compile(rb"\r\nContact: <sip:[^:>]+:(\d+)>")
# What a response copies from its request (RFC 3261 8.2.6.2). Compact forms never occur among our targets.
_COPIED = (b"via:", b"from:", b"to:", b"call-id:", b"cseq:")


def datagram_socket() -> socket.socket:
    """A loopback UDP socket on a port the kernel chose, with room for a burst."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sock.bind((HOST, 0))
    return sock


def port_of(sock: socket.socket) -> int:
    """The port a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port


def body(seq: int, user: int) -> bytes:
    """A text of 120 bytes that says which message of which recipient it is."""
    text = f"seq={seq:06d} user={user:03d} See you at the usual place at seven, bring the long ladder with you. "
    return text.ljust(BODY_SIZE, ".")[:BODY_SIZE].encode()


def message(seq: int, user: int, port: int, run: str) -> bytes:
    """A MESSAGE to recipient number `user`; its Call-ID starts with `seq`."""
    head = (
        f"MESSAGE sip:u{user:03d}@{DOMAIN} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {HOST}:{port};rport;branch=z9hG4bK{run}{seq:06d}\r\n"
        f"From: <sip:c{seq % 97:02d}@{DOMAIN}>;tag={run}{seq:06d}\r\n"
        f"To: <sip:u{user:03d}@{DOMAIN}>\r\n"
        f"Call-ID: {seq}.{run}\r\n"
        "CSeq: 1 MESSAGE\r\n"
        "Max-Forwards: 70\r\n"
        "Content-Type: text/plain\r\n"
        f"Content-Length: {BODY_SIZE}\r\n\r\n"
    )
    return head.encode() + body(seq, user)


def register(user: int, port: int, run: str, number: int | None = None) -> bytes:
    """A REGISTER of recipient number `user` with a Contact at `port`; `number`: which one of many, by its Call-ID."""
    name = user if number is None else number
    return (
        f"REGISTER sip:{DOMAIN} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {HOST}:{port};rport;branch=z9hG4bKr{run}{name:06d}\r\n"
        f"From: <sip:u{user:03d}@{DOMAIN}>;tag=r{run}{name:06d}\r\n"
        f"To: <sip:u{user:03d}@{DOMAIN}>\r\n"
        f"Call-ID: {name}.r{run}\r\n"
        "CSeq: 1 REGISTER\r\n"
        "Max-Forwards: 70\r\n"
        f"Contact: <sip:u{user:03d}@{HOST}:{port}>\r\n"
        "Expires: 3600\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def options(port: int) -> bytes:
    """An OPTIONS, to ask whether anybody answers yet."""
    return (
        f"OPTIONS sip:nobody@{DOMAIN} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {HOST}:{port};rport;branch=z9hG4bKo{port}\r\n"
        f"From: <sip:probe@{DOMAIN}>;tag=o{port}\r\n"
        f"To: <sip:nobody@{DOMAIN}>\r\n"
        f"Call-ID: o{port}\r\n"
        "CSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 70\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def leading_number(answer: bytes) -> int:
    """The number our Call-ID starts with, or -1."""
    at = answer.find(b"\r\nCall-ID: ")
    end = answer.find(b".", at)
    digits = answer[at + 11 : end]
    return int(digits) if at >= 0 and digits.isdigit() else -1


def response(request: bytes, status: bytes) -> bytes:
    """A final response to any request, for instance ``response(datagram, b"200 OK")``."""
    lines = request[: request.find(b"\r\n\r\n")].split(b"\r\n")[1:]
    copied = [line for line in lines if line.lower().startswith(_COPIED)]
    return b"SIP/2.0 " + status + b"\r\n" + b"\r\n".join(copied) + b"\r\nContent-Length: 0\r\n\r\n"


def top_via(datagram: bytes) -> bytes:
    """The first Via line: equal in a retransmission, different in every other request (RFC 3261 17.2.3)."""
    at = datagram.find(b"\r\nVia:")
    return datagram[at + 2 : datagram.find(b"\r\n", at + 2)]


def tags_of(datagram: bytes) -> tuple[int, int] | None:
    """Sequence number and recipient in the body of one of our messages."""
    found = _TAGS.search(datagram)
    return (int(found[1]), int(found[2])) if found else None


def target_of(datagram: bytes) -> int:
    """The recipient a MESSAGE is addressed to, or -1."""
    found = _TARGET.match(datagram)
    return int(found[1]) if found else -1


def contact_port(datagram: bytes) -> int:
    """The port in the Contact of one of our REGISTERs."""
    found = _CONTACT_PORT.search(datagram)
    return int(found[1]) if found else 0
