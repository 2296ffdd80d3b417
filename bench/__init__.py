"""Store and replay rates of msilo-lite, of the original, and of the load generator itself.

Run as ``python -m bench`` from the root of the project. Absolute rates say little: they belong to one machine and one
hour. What counts are the ratios between targets measured side by side in one run, so that is what the table shows.

Each measurement starts a fresh process of its target on a fresh database. Load comes from a process of its own
(`load`), replays go to another (`phone`); neither imports anything of msilo-lite.
"""
