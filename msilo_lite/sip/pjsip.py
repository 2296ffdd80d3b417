"""PJSIP's C API, reached through the symbols that the pjsua2 wheel exports; nothing here knows about messages.

pjsua2's classes answer a MESSAGE 200 before anybody sees it, refuse most Content-Types, drop REGISTER and take no
bytes. The extension module exports all of PJSIP, and a `pjsip_module` is PJSIP's own way to see requests first. Only
this module uses ctypes; `sip` gives it a narrow, typed face. Every symbol is checked once, at import of `CApi`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import SipError

P = ctypes.c_void_p
PRIORITY = 24
"Between the transaction layer (16), which absorbs what it knows, and the UA layer (32): every dialog is ours."
EMSGTOOLONG, EINVALIDHDR = 171023, 171050
"pj_status_t of a request over the 4,000 byte buffer, and of a From or To that PJSIP refuses: the message's own fault."


class Str(ctypes.Structure):
    """pj_str_t: a pointer and a length; PJSIP copies what it keeps."""

    _fields_ = [("ptr", ctypes.c_char_p), ("slen", ctypes.c_ssize_t)]


RX_PACKET = ctypes.CFUNCTYPE(ctypes.c_int, P)
SEND_DONE = ctypes.CFUNCTYPE(None, P, P)


class DroppedData(ctypes.Structure):
    """pjsip_tp_dropped_data: what PJSIP received and could not parse."""

    _fields_ = [("transport", P), ("data", P), ("len", ctypes.c_size_t), ("status", ctypes.c_int)]


DROPPED = ctypes.CFUNCTYPE(None, ctypes.POINTER(DroppedData))
KEEP_ALIVE = 70020
"PJ_EIGNORED: a datagram of line ends only, which holds a NAT binding open (RFC 5626 3.5.1)."


class Module(ctypes.Structure):
    """pjsip_module (sip_module.h); its layout has no build-time options."""

    _fields_ = [
        ("prev", P), ("next", P), ("name", Str), ("id", ctypes.c_int), ("priority", ctypes.c_int),
        ("load", P), ("start", P), ("stop", P), ("unload", P), ("on_rx_request", RX_PACKET),
        ("on_rx_response", RX_PACKET), ("rest", P * 3),
    ]  # fmt: skip


class OtherUri(ctypes.Structure):
    """pjsip_other_uri (sip_uri.h), which PJSIP prints as it is: scheme, colon, content."""

    _fields_ = [("vptr", P), ("scheme", Str), ("content", Str)]


class FromTo(ctypes.Structure):
    """The head of pjsip_fromto_hdr (sip_msg.h); its layout has no build-time options either."""

    _fields_ = [
        ("prev", P), ("next", P), ("type", ctypes.c_int), ("name", Str), ("short_name", Str), ("vptr", P), ("uri", P),
        ("tag", Str),
    ]  # fmt: skip


class Method(ctypes.Structure):
    """pjsip_method: PJSIP_OTHER_METHOD and the name."""

    _fields_ = [("id", ctypes.c_int), ("name", Str)]


OTHER_METHOD = 6
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "pj_log_set_level": (None, ctypes.c_int),
    "pj_strerror": (Str, ctypes.c_int, P, ctypes.c_size_t),
    "pj_list_insert_before": (None, P, P),
    "pj_pool_release": (None, P),
    "pjsua_get_pjsip_endpt": (P,),
    "pjsua_pool_create": (P, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t),
    "pjsua_msg_data_init": (None, P),
    "pjsua_process_msg_data": (None, P, P),
    "pjsua_init_tpselector": (None, ctypes.c_int, P),
    "pjsip_endpt_register_module": (ctypes.c_int, P, P),
    "pjsip_endpt_get_tpmgr": (P, P),
    "pjsip_get_status_text": (P, ctypes.c_int),
    "pjsip_udp_transport_get_socket": (ctypes.c_long, P),
    "pjsip_tpmgr_set_drop_data_cb": (ctypes.c_int, P, DROPPED),
    "pjsip_rx_data_clone": (ctypes.c_int, P, ctypes.c_uint, ctypes.POINTER(P)),
    "pjsip_rx_data_free_cloned": (ctypes.c_int, P),
    "pjsip_endpt_respond_stateless": (ctypes.c_int, P, P, ctypes.c_int, P, P, P),
    "pjsip_endpt_create_request_from_hdr": (ctypes.c_int, P, P, P, P, P, P, P, ctypes.c_int, P, ctypes.POINTER(P)),
    "pjsip_parse_uri": (P, P, P, ctypes.c_size_t, ctypes.c_uint),
    "pjsip_from_hdr_create": (P, P),
    "pjsip_to_hdr_create": (P, P),
    "pjsip_other_uri_create": (P, P),
    "pjsip_endpt_send_request": (ctypes.c_int, P, P, ctypes.c_int32, P, SEND_DONE),
    "pjsip_generic_string_hdr_create": (P, P, P, P),
    "pjsip_parse_hdr": (P, P, P, P, ctypes.c_size_t, P),
    "pjsip_tx_data_set_transport": (ctypes.c_int, P, P),
    "pjsip_tx_data_dec_ref": (ctypes.c_int, P),
    "pj_enum_ip_interface": (ctypes.c_int, ctypes.c_int, P, P),
    "pj_sockaddr_print": (ctypes.c_char_p, P, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint),
    # C++ members of the binding, by their Itanium-mangled names (Linux and macOS)
    "_ZN2pj9SipRxData6fromPjER13pjsip_rx_data": (None, P, P),
    "_ZN2pj8SipEvent6fromPjERK11pjsip_event": (None, P, P),
    "_ZNK2pj11SipTxOption4toPjER14pjsua_msg_data": (None, P, P),
}
MSG_DATA_SIZE = 4096
"Room for a pjsua_msg_data, which is about 400 bytes; the binding fills it and tells us its layout."


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets inside pjsua_msg_data, in bytes, learned from the binding at start rather than assumed."""

    headers: int
    content_type: int
    body: int


class CApi:
    """PJSIP's functions with their C types, as attributes.

    Raises SipError, naming the binding, when one is missing: another build of pjsua2, or Windows.
    """

    def __init__(self, binding: Any, version: str) -> None:
        library = self.library = ctypes.CDLL(binding.__file__)
        for name, (result, *arguments) in SIGNATURES.items():
            try:
                function = getattr(library, name)
            except AttributeError:
                raise SipError(
                    f"the pjsua2 binding {version} does not export {name}; install pjsua2-python 2.15.1.post1"
                ) from None
            function.restype, function.argtypes = result, arguments
            setattr(self, _short(name), function)

    def __getattr__(self, name: str) -> Any:  # only reached for a name that is not in SIGNATURES
        raise AttributeError(f"PJSIP's {name} is not declared in SIGNATURES")

    def why(self, status: int) -> str:
        """PJSIP's words for a pj_status_t."""
        buffer = ctypes.create_string_buffer(200)
        self.pj_strerror(status, buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def check(self, status: int, what: str) -> None:
        """Raises SipError when a PJSIP function failed."""
        if status:
            raise SipError(f"{what}: {self.why(status)}", status=status, permanent=status in (EMSGTOOLONG, EINVALIDHDR))


def _short(name: str) -> str:
    """`_ZN2pj9SipRxData6fromPj...` becomes `SipRxData_fromPj`; C names stay."""
    for plain in ("SipRxData", "SipEvent"):
        if f"{plain}6fromPj" in name:
            return f"{plain}_fromPj"
    return "SipTxOption_toPj" if "SipTxOption4toPj" in name else name


def pj_str(data: bytes) -> Str:
    """A pj_str_t over `data`, which must outlive its use."""
    return Str(data, len(data))


def learn_layout(api: CApi, option: Any) -> Layout:
    """Where pjsua_msg_data keeps its header list, Content-Type and body: ask the binding to fill one and look.

    `option` is a fresh pjsua2 SipTxOption. Raises SipError when the answer is not unique.
    """
    option.contentType, option.msgBody = "x/" + "?" * 1235, "?" * 4099  # lengths that no other word has by chance
    filled = ctypes.create_string_buffer(MSG_DATA_SIZE)
    api.SipTxOption_toPj(int(option.this), ctypes.addressof(filled))
    words = [int.from_bytes(filled.raw[i : i + 8], sys.byteorder) for i in range(0, MSG_DATA_SIZE, 8)]
    base = ctypes.addressof(filled)
    lists = [8 * i for i, word in enumerate(words[:-1]) if word == base + 8 * i == words[i + 1]]
    sizes = {size: [8 * i for i, word in enumerate(words) if word == size] for size in (1237, 4099)}
    if not lists or any(len(found) != 1 for found in sizes.values()):
        raise SipError("this build of pjsua2 lays out pjsua_msg_data in an unknown way; install pjsua2-python 2.15.1")
    return Layout(headers=lists[0], content_type=sizes[1237][0] - 8, body=sizes[4099][0] - 8)


class Headers:
    """A pjsip_hdr list on a pool of its own, as the hdr_list arguments of PJSIP want it."""

    def __init__(self, api: CApi, at: int | None = None) -> None:
        self._api = api
        self._pool = api.pjsua_pool_create(b"hdrs", 1024, 1024)
        self._texts: list[Any] = []
        if at is None:  # a pjsip_hdr begins with prev and next: an empty list points at itself
            self._own = (P * 16)()
            at = ctypes.addressof(self._own)
            self._own[0] = self._own[1] = at
        self.at = at
        "Address of the list head."

    def add(self, name: bytes, value: bytes) -> None:
        """Append one header; PJSIP copies both."""
        n, v = pj_str(name), pj_str(value)
        header = self._api.pjsip_generic_string_hdr_create(self._pool, ctypes.byref(n), ctypes.byref(v))
        self._api.pj_list_insert_before(self.at, header)

    def add_route(self, value: bytes) -> None:
        """Append a Route that PJSIP follows; raises SipError when PJSIP cannot parse it."""
        name, text = pj_str(b"Route"), ctypes.create_string_buffer(value)
        self._texts.append(text)  # parsed in place: the header points into it until it is cloned
        header = self._api.pjsip_parse_hdr(self._pool, ctypes.byref(name), text, len(value), None)
        if not header:
            raise SipError(f"PJSIP cannot parse the route {value.decode(errors='replace')}", permanent=True)
        self._api.pj_list_insert_before(self.at, header)

    def release(self) -> None:
        """Give the pool back; the list must not be used afterwards."""
        self._api.pj_pool_release(self._pool)


@contextmanager
def header_list(api: CApi, headers: Iterable[tuple[bytes, bytes]], at: int | None = None) -> Iterator[Headers]:
    """A `Headers` filled with `headers`, released at the end."""
    made = Headers(api, at)
    try:
        for name, value in headers:
            made.add(name, value)
        yield made
    finally:
        made.release()


class RequestLine:
    """What a request begins with, built on a pool that is given back by `release`: PJSIP copies it into the request.

    From and To are written byte for byte: PJSIP's own SIP URIs would lose a port (which RFC 3261 table 1 forbids there,
    and half the world sends) and rewrite escapes and quotes.
    """

    def __init__(self, api: CApi, method: bytes) -> None:
        self._api = api
        self._pool = api.pjsua_pool_create(b"request", 1024, 1024)
        self._kept: list[Any] = [method]
        self._method = Method(OTHER_METHOD, pj_str(method))

    def _address(self, header: int, text: bytes, tag: bytes) -> int:
        """Put a whole name-addr into a From or To as a URI that PJSIP prints as it is."""
        scheme, _, content = text.partition(b":")
        self._kept += [scheme, content, tag]
        if tag:
            FromTo.from_address(header).tag = pj_str(tag)
        uri = OtherUri.from_address(self._api.pjsip_other_uri_create(self._pool))
        uri.scheme, uri.content = pj_str(scheme), pj_str(content)
        FromTo.from_address(header).uri = ctypes.addressof(uri)
        return header

    def create(
        self,
        endpoint: int,
        target: bytes,
        from_: tuple[bytes, bytes],
        to: tuple[bytes, bytes],
        call_id: bytes,
        cseq: int,
    ) -> P:
        """A tx_data, which is the caller's. `from_` and `to` are name-addr and tag. Raises SipError."""
        api, pool = self._api, self._pool
        buffer = ctypes.create_string_buffer(target)
        uri = api.pjsip_parse_uri(pool, buffer, len(target), 0)
        if not uri:
            raise SipError(f"PJSIP cannot parse the Request-URI {target.decode(errors='replace')}")
        sender = self._address(api.pjsip_from_hdr_create(pool), *from_)
        receiver = self._address(api.pjsip_to_hdr_create(pool), *to)
        name, value = pj_str(b"Call-ID"), pj_str(call_id)
        call = api.pjsip_generic_string_hdr_create(pool, ctypes.byref(name), ctypes.byref(value))
        data, method = P(), ctypes.byref(self._method)
        arguments = (endpoint, method, uri, sender, receiver, None, call, cseq, None, ctypes.byref(data))
        api.check(api.pjsip_endpt_create_request_from_hdr(*arguments), "building the request")
        return data

    def release(self) -> None:
        """Give the pool back."""
        self._api.pj_pool_release(self._pool)


SIP_CFG_TIMERS = (1023, 500, 4000, 5000, 32000)
"tsx.max_count, t1, t2, t4 and td as they stand in pjsip_cfg_t (sip_config.h), by which its layout is known."


def stay_on_udp(api: CApi) -> None:
    """Let nothing over 1,300 bytes go by TCP where UDP was asked for: PJSIP shall have no TCP socket at all.

    Raises SipError where pjsip_cfg_t is not laid out as we know it.
    """
    words = (ctypes.c_int * 18).in_dll(api.library, "pjsip_sip_cfg_var")
    if tuple(words[13:18]) != SIP_CFG_TIMERS:
        raise SipError("this build of pjsua2 lays out pjsip_cfg_t in an unknown way; install pjsua2-python 2.15.1")
    words[4] = 1  # endpt.disable_tcp_switch


def status_phrase(api: CApi, status: int) -> bytes:
    """PJSIP's words for a status code."""
    at = api.pjsip_get_status_text(status)
    return ctypes.string_at(P.from_address(at).value or 0, Str.from_address(at).slen)


SELECTED = 8
"Where a pjsip_tpselector keeps the transport, after two ints (sip_transport.h)."


def selected_socket(api: CApi, selector: Any) -> tuple[int, int]:
    """Address of the UDP transport that a selector names, and its socket, which stays PJSIP's."""
    transport = P.from_buffer(selector, SELECTED).value or 0
    return transport, api.pjsip_udp_transport_get_socket(transport)


def register_module(
    api: CApi, endpoint: int, on_request: Callable[[int], int], on_response: Callable[[int], int]
) -> tuple[Any, ...]:
    """Put `on_request(rdata) -> 0 | 1`, and the same for responses, in front of pjsua's modules; 1 means taken.

    Returns what must be kept alive as long as the endpoint. Raises SipError.
    """
    name = b"mod-msilo-lite"
    callbacks = RX_PACKET(on_request), RX_PACKET(on_response)
    module = Module(
        name=pj_str(name), id=-1, priority=PRIORITY, on_rx_request=callbacks[0], on_rx_response=callbacks[1]
    )
    api.check(api.pjsip_endpt_register_module(endpoint, ctypes.addressof(module)), "registering with PJSIP")
    return name, callbacks, module


def watch_dropped(api: CApi, endpoint: int, on_dropped: Callable[[int, bytes, str], None]) -> Any:
    """Call `on_dropped(transport, datagram, why)` where PJSIP refuses to parse one and therefore never answers.

    Returns what must be kept alive as long as the endpoint. Raises SipError.
    """

    def dropped(data: Any) -> None:
        if data.contents.status != KEEP_ALIVE:
            what = ctypes.string_at(data.contents.data, data.contents.len)
            on_dropped(data.contents.transport or 0, what, api.why(data.contents.status))

    callback = DROPPED(dropped)
    api.check(api.pjsip_tpmgr_set_drop_data_cb(api.pjsip_endpt_get_tpmgr(endpoint), callback), "watching drops")
    return callback


SOCKADDR, INTERFACES = 28, 64
"Bytes of a pj_sockaddr (an IPv6 address with port, flow and scope), and how many interfaces are looked at."


def interface_addresses(api: CApi, six: bool) -> tuple[str, ...]:
    """The IP addresses of this machine, of one family; loopback alone when PJSIP cannot tell."""
    loopback = "::1" if six else "127.0.0.1"  # PJSIP leaves it out
    found = ctypes.create_string_buffer(SOCKADDR * INTERFACES)
    count, text = ctypes.c_uint(INTERFACES), ctypes.create_string_buffer(64)
    family = ctypes.c_uint16.in_dll(api.library, "PJ_AF_INET6" if six else "PJ_AF_INET").value
    if api.pj_enum_ip_interface(family, ctypes.byref(count), found):
        return (loopback,)
    start = ctypes.addressof(found)
    each = (api.pj_sockaddr_print(start + SOCKADDR * i, text, len(text), 0) for i in range(count.value))
    return (loopback, *(address.decode().partition("%")[0] for address in each))
