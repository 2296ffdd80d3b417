"""msilo-lite: a stand-alone offline store for SIP MESSAGE requests.

The story of a message, folder by folder: in `sip`, `agent` hears it (by TCP or TLS through the `door`) and `wire` reads
it; the `gatekeeper` knows what its sender may do; `reception` decides with `silo` in `box`, which stages it in a turn
that `store` commits; then the `daemon` answers 202, and `courier` tells the sender that nobody was there. In `pbx`,
`registration` or `watch` sees its owner come back. In `outbound`, `scheduler` waits a moment, `replay` opens a lane,
`ways` knows where it goes, `compose` dresses it, and `agent` sends it; what is plain leaves by the short way of `udp`.
What a Kamailio would say in its script, `control` in `settings` reads from a request, `intake` in `cli` from a person,
and `api` from a program. Between two turns, `service` has the parts take over another configuration (`rules`) and tells
`systemd` how it is. Around it all, `supervise` starts a silo again that died, and `recorder` tells the next one why.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """`__version__`, looked up when somebody asks: the look-up alone costs 7 MB, and `supervise` has no use for it."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("msilo-lite")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+source"
