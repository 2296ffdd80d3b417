"""msilo-lite: a stand-alone offline store for SIP MESSAGE requests.

The story of a message: `sip` hears it, `wire` reads it, `reception` decides with `silo`, which stages it in a turn that
`store` commits; then the daemon answers 202, and `courier` tells the sender that nobody was there. `registration` or
`watch` sees its owner come back, `scheduler` waits a moment, `replay` opens a lane, `ways` knows where it goes,
`compose` dresses it, and `sip` sends it. What a Kamailio would say in its script, `control` reads from a request,
`intake` from a person, and `api` from a program.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("msilo-lite")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
