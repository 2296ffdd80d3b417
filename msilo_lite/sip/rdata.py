"""A packet as PJSIP holds it (pjsip_rx_data), read in place.

pjsua2's own copy of it costs as much as reading the request. Where its fields lie depends on how PJSIP was built, so
the offsets are learned from a first packet, with that copy for an answer, and held against it for some more. Where they
cannot be found, or disagree once, the copy is what is used.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

HEAD = 1024
"Bytes of a pjsip_rx_data in which its packet begins."
PACKET = 4000
"PJSIP_MAX_PKT_LEN: what follows the packet lies after as many bytes."
SLACK, WINDOW = 64, 512
"Bytes before the end of the packet at which to start looking, and for how many; the structure is longer."
SOCKADDR = 28
"Bytes of a pj_sockaddr."
LEARN, CHECK = 8, 16
"Packets from which to try to learn, and packets that are read both ways afterwards."
_POINTER, _POINTER_AND_SIZE = struct.Struct("@P"), struct.Struct("@Pi")


class Packet(NamedTuple):
    """What came in one packet."""

    raw: bytes
    host: str
    "Source IP address, without brackets."
    port: int
    transport: int = 0
    "Address of PJSIP's transport, 0 where it is not known."


@dataclass(frozen=True, slots=True)
class Offsets:
    """Bytes from the beginning of a pjsip_rx_data."""

    transport: int
    source: int
    text: int
    "Of msg_buf, which msg_len follows."


class Packets:
    """Reads packets."""

    def __init__(self, copied: Callable[[int], Packet], transports: Collection[int]) -> None:
        """`copied`: the binding's way. `transports`: addresses of those we listen on; may grow."""
        self._copied = copied
        self._transports = transports
        self._offsets: Offsets | None = None
        self._lessons = LEARN
        self._checks = CHECK

    @property
    def direct(self) -> bool:
        """Whether packets are read in place, and not through the binding's copy any more."""
        return self._offsets is not None and not self._checks

    def read(self, rdata: int) -> Packet:
        """The packet at an address."""
        offsets = self._offsets
        if offsets is None:
            packet = self._copied(rdata)
            if self._lessons:
                self._lessons -= 1
                self._offsets = learned(rdata, packet, self._transports)
            return packet
        packet = read_at(rdata, offsets)
        if self._checks:
            packet = self._checked(rdata, packet)
        return packet

    def _checked(self, rdata: int, packet: Packet) -> Packet:
        self._checks -= 1
        copied = self._copied(rdata)
        if packet[:3] == copied[:3]:
            return packet
        self._offsets, self._lessons = None, 0
        return copied


def read_at(rdata: int, offsets: Offsets) -> Packet:
    """The packet at an address, by offsets that are known to be right."""
    pointer, size = _POINTER_AND_SIZE.unpack_from(_memory(rdata + offsets.text, _POINTER_AND_SIZE.size))
    host, port = _source(_memory(rdata + offsets.source, SOCKADDR).tobytes())
    (transport,) = _POINTER.unpack_from(_memory(rdata + offsets.transport, _POINTER.size))
    raw = _memory(pointer, PACKET)[:size].tobytes() if size <= PACKET else ctypes.string_at(pointer, size)
    return Packet(raw, host, port, transport)


@lru_cache(maxsize=64)
def _memory(address: int, size: int) -> memoryview:
    """So many bytes from an address on, not looked at yet: PJSIP reads each packet of a socket to the same place."""
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


@lru_cache(maxsize=4096)
def _source(sockaddr: bytes) -> tuple[str, int]:
    """Address and port of a pj_sockaddr; an empty address for a family nobody knows."""
    (family,), (port,) = struct.unpack_from("=H", sockaddr), struct.unpack_from("!H", sockaddr, 2)
    if family == socket.AF_INET:
        return socket.inet_ntop(family, sockaddr[4:8]), port
    return (socket.inet_ntop(family, sockaddr[8:24]), port) if family == socket.AF_INET6 else ("", 0)


def learned(rdata: int, packet: Packet, transports: Collection[int]) -> Offsets | None:
    """Where the fields of a packet lie whose content is known; None where that is not plain to see."""
    head = ctypes.string_at(rdata, HEAD)
    at = head.find(packet.raw[:HEAD])
    if at < 0 or not packet.raw:
        return None
    words = struct.unpack("@8P", head[:64])
    owners = [8 * i for i, word in enumerate(words) if word in transports]
    start = (at + PACKET - SLACK) // 8 * 8
    after = ctypes.string_at(rdata + start, WINDOW)
    wanted = _POINTER_AND_SIZE.pack(rdata + at, len(packet.raw))
    texts = [i for i in range(0, WINDOW - SOCKADDR, 8) if after.startswith(wanted, i)]
    sources = [i for i in range(0, WINDOW - SOCKADDR, 4) if _is_source(after[i : i + SOCKADDR], packet)]
    if len(owners) != 1 or len(texts) != 1 or not sources:
        return None
    return Offsets(owners[0], start + sources[0], start + texts[0])


def _is_source(sockaddr: bytes, packet: Packet) -> bool:
    try:
        host, port = _source(sockaddr)
        return port == packet.port and ip_address(host) == ip_address(packet.host)
    except ValueError:
        return False
