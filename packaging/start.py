"""What the single executable runs: the same as `python -m msilo_lite`."""

import runpy

runpy.run_module("msilo_lite", run_name="__main__")
