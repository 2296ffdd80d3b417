"""Packets read in place: offsets are learned from memory laid out as PJSIP does it, and given up when they lie."""

import ctypes
import socket
import struct

import pytest

from msilo_lite.sip.rdata import CHECK, LEARN, PACKET, Packet, Packets, learned, read_at

TRANSPORT = 0x7F00_1234_5678
RAW = b"MESSAGE sip:bob@home.lan SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n\0\xff body"


class Memory:
    """A pjsip_rx_data as PJSIP 2.15.1 has it: transport, packet of 4,000 bytes, source, then msg_buf and its length."""

    def __init__(self, raw: bytes = RAW, host: str = "192.0.2.7", port: int = 4711, packet: int = 368) -> None:
        self.buffer = ctypes.create_string_buffer(packet + PACKET + 1024)
        self.at = ctypes.addressof(self.buffer)
        six = ":" in host
        family = socket.AF_INET6 if six else socket.AF_INET
        address = (b"\0" * 4 if six else b"") + socket.inet_pton(family, host)
        self.put(8, struct.pack("@P", TRANSPORT))
        self.put(packet, raw)
        self.put(packet + PACKET + 16, struct.pack("=H", family) + struct.pack("!H", port) + address)
        self.put(packet + PACKET + 96, struct.pack("@Pi", self.at + packet, len(raw)))
        self.packet = Packet(raw, host, port)

    def put(self, offset: int, data: bytes) -> None:
        ctypes.memmove(self.at + offset, data, len(data))


@pytest.mark.parametrize("host", ["192.0.2.7", "127.0.0.1", "2001:db8::7", "::1"])
@pytest.mark.parametrize("packet", [72, 368, 600])
def test_what_was_learned_reads_other_packets(host: str, packet: int) -> None:
    memory = Memory(host=host, packet=packet)
    offsets = learned(memory.at, memory.packet, {TRANSPORT})
    assert offsets is not None
    other = Memory(b"REGISTER" + b"x" * 3900, "198.51.100.1", 5060, packet)
    assert read_at(other.at, offsets) == (*other.packet[:3], TRANSPORT)


def test_nothing_is_learned_where_it_is_not_plain_to_see() -> None:
    memory = Memory()
    assert learned(memory.at, memory.packet._replace(raw=b"INVITE"), {TRANSPORT}) is None
    assert learned(memory.at, memory.packet._replace(raw=b""), {TRANSPORT}) is None
    assert learned(memory.at, memory.packet._replace(port=1), {TRANSPORT}) is None
    assert learned(memory.at, memory.packet._replace(host="no address"), {TRANSPORT}) is None
    assert learned(memory.at, memory.packet, {1}) is None  # of a transport that we do not know, such as TCP
    memory.put(16, struct.pack("@P", TRANSPORT))
    assert learned(memory.at, memory.packet, {TRANSPORT}) is None


def test_the_copy_is_asked_until_enough_packets_agreed() -> None:
    memory, asked = Memory(), []
    packets = Packets(lambda rdata: asked.append(rdata) or memory.packet, {TRANSPORT})  # type: ignore[func-returns-value]
    for _ in range(1 + CHECK):
        assert not packets.direct
        assert packets.read(memory.at)[:3] == memory.packet[:3]
    assert packets.direct
    assert len(asked) == 1 + CHECK
    assert packets.read(memory.at).transport == TRANSPORT
    assert len(asked) == 1 + CHECK


def test_one_lie_and_the_copy_is_believed_for_ever() -> None:
    memory = Memory()
    truth = [memory.packet, memory.packet, memory.packet._replace(host="192.0.2.99")]
    packets = Packets(lambda _: truth.pop(0) if truth else memory.packet._replace(host="the copy"), {TRANSPORT})
    assert [packets.read(memory.at).host for _ in range(3)] == ["192.0.2.7", "192.0.2.7", "192.0.2.99"]
    assert packets.read(memory.at).host == "the copy"
    assert not packets.direct


def test_learning_is_tried_a_few_times_only() -> None:
    memory = Memory()
    packets = Packets(lambda _: memory.packet, {1})
    for _ in range(LEARN):
        packets.read(memory.at)
    packets._transports = {TRANSPORT}
    assert packets.read(memory.at).transport == 0
