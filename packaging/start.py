"""What the single executable runs: `msilo_lite/__main__.py` itself cannot be a script, its imports are relative."""

from msilo_lite.cli.app import main

main()
