"""msilo-lite: a stand-alone offline store for SIP MESSAGE requests.

The story of a message, folder by folder: in `sip`, `agent` hears it and `wire` reads it; `reception` decides with
`silo` in `box`, which stages it in a turn that `store` commits; then the `daemon` answers 202, and `courier` tells the
sender that nobody was there. In `pbx`, `registration` or `watch` sees its owner come back. In `outbound`, `scheduler`
waits a moment, `replay` opens a lane, `ways` knows where it goes, `compose` dresses it, and `agent` sends it; what is
plain leaves by the short way of `udp`. What a Kamailio would say in its script, `control` in `settings` reads from a
request, `intake` in `cli` from a person, and `api` from a program. Between two turns, `service` has the parts take over
another configuration (`rules`) and tells `systemd` how it is.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("msilo-lite")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
