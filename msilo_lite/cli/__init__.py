"""The command line: each command parses, calls one function, shows one view, returns one code."""
