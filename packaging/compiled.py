"""The package with its busiest modules as machine code: `make compiled` runs this from the project's folder.

mypyc makes C of them, by the types that mypy checks, and a C compiler a library beside each; Python takes the library
where both are there. The whole package then lies in build/compiled, and as a wheel for this Python and this kind of
machine in dist/. A module belongs here where requests or replays pass through it by the thousand.
"""

from pathlib import Path

from mypyc.build import mypycify
from setuptools import find_packages, setup

BUSY = {
    "": "allowance daemon gatekeeper points reception upkeep",
    "box": "delivery engine ground holds message numbers policy quota repair repeats rows shelf silo store told",
    "outbound": "bindings carrier compose courier lanes notice pace replay scheduler ways",
    "pbx": "echoes registration",
    "seeing": "journal monitor",
    "settings": "control pseudo",
    "sip": "address agent datagram lines rdata response transaction udp wire",
}
"By folder of the package."
OUT = "build/compiled"


def main() -> None:
    """Build it all; ends with the compiler's own words where something is missing."""
    steps = (
        "--quiet egg_info --egg-base build",
        f"build --build-lib {OUT} --build-temp build/c",
        "bdist_wheel --skip-build --bdist-dir build/wheel --dist-dir dist",
    )
    modules = [str(Path("msilo_lite", folder, f"{name}.py")) for folder in BUSY for name in BUSY[folder].split()]
    setup(
        packages=find_packages(include=["msilo_lite", "msilo_lite.*"]),
        ext_modules=mypycify(modules, opt_level="2", debug_level="0", group_name="msilo_lite", target_dir="build/c"),
        package_data={"msilo_lite": ["py.typed", "recipes/*/*"]},
        data_files=[("share/man/man1", ["data/share/man/man1/msilo-lite.1"])],
        script_args=" ".join(steps).split(),
    )


if __name__ == "__main__":
    main()
