"""The settings: one frozen object (`config`), made from file, environment and flags (`sources`), given a meaning."""
