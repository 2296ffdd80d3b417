"""A request as PJSIP's own tx_data, byte for byte what we were given: the long way, through PJSIP's functions."""

from __future__ import annotations

import ctypes
from typing import Any

from .lines import octets
from .pjsip import MSG_DATA_SIZE, CApi, Layout, P, RequestLine, Str, header_list
from .wire import Outgoing


class Builder:
    """Builds requests. Its methods raise SipError."""

    def __init__(self, api: CApi, endpoint: int, layout: Layout) -> None:
        """`layout`: where this build of PJSIP keeps what goes into a request."""
        self._api = api
        self._endpt = endpoint
        self._layout = layout

    def create(self, message: Outgoing, selector: Any) -> P:
        """The request as PJSIP's own tx_data, ours to send or to give back."""
        data = self._create_bare(message)
        try:
            self._fill(data, message)
            self._api.check(self._api.pjsip_tx_data_set_transport(data, selector), "choosing the transport")
        except BaseException:
            self._api.pjsip_tx_data_dec_ref(data)
            raise
        return data

    def _create_bare(self, message: Outgoing) -> P:
        """Request line, From, To, Call-ID and CSeq; PJSIP gives back its memory when it fails."""
        start = RequestLine(self._api, message.method.encode())
        from_ = octets(message.from_), octets(message.from_tag)
        to = octets(message.to), octets(message.to_tag)
        try:
            return start.create(self._endpt, octets(message.target), from_, to, octets(message.call_id), message.cseq)
        finally:
            start.release()

    def _fill(self, data: P, message: Outgoing) -> None:
        """Headers, Route and body."""
        api, layout = self._api, self._layout
        options = ctypes.create_string_buffer(MSG_DATA_SIZE)
        at = ctypes.addressof(options)
        api.pjsua_msg_data_init(at)
        headers = message.headers
        if message.body:
            for offset, text in ((layout.content_type, message.ctype), (layout.body, message.body)):
                field = Str.from_buffer(options, offset)
                field.ptr, field.slen = text, len(text)
        elif message.ctype:  # PJSIP writes the Content-Type of a body only
            headers = (*headers, (b"Content-Type", message.ctype))
        with header_list(api, headers, at + layout.headers) as made:
            for route in message.routes:
                made.add_route(octets(route))
            api.pjsua_process_msg_data(data, at)
