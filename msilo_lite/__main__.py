"""`python -m msilo_lite`."""

from .cli.app import main

main()
