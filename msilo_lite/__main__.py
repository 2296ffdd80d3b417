"""`python -m msilo_lite`."""

from .cli import main

main()
