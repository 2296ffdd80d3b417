"""Real files and real processes, without other SIP programs."""
