"""msilo-lite: a stand-alone offline store for SIP MESSAGE requests.

The story of a message: `sip` hears it, `wire` reads it, `daemon` takes it to `silo`, which stages it in a turn that
`store` commits; then it is answered 202. `registration` sees its owner come back, `scheduler` waits a moment, `replay`
opens a lane, and `sip` sends it.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("msilo-lite")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
