# Debian's own Kamailio, for examples/kamailio/kamailio.cfg.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends kamailio \
    && rm -rf /var/lib/apt/lists/*
USER kamailio
ENTRYPOINT ["kamailio", "-DD", "-E", "-f", "/etc/kamailio/silo.cfg", "-w", "/tmp", "-Y", "/tmp"]
