"""The edge: what comes from the wire and goes to it. `agent` hears and sends, `wire` reads, `asker` gives passwords."""
