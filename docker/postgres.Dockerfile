# PostgreSQL for docker/compose.yaml: it answers on a Unix socket in a volume, on no network. Built by: make images
ARG BASE_IMAGE=postgres:17-bookworm
FROM ${BASE_IMAGE}
ENV PGDATA=/var/lib/switchboard-postgres/data
COPY postgres-start /usr/local/bin/postgres-start
RUN echo 'switchboard:x:10001:10001:switchboard:/var/lib/switchboard-postgres:/bin/sh' >> /etc/passwd \
    && echo 'switchboard:x:10001:' >> /etc/group \
    && ln -sf /usr/lib/postgresql/*/bin/pg_isready /usr/local/bin/pg_isready \
    && mkdir -p /var/lib/switchboard-postgres /run/switchboard-postgres \
    && chown 10001:10001 /var/lib/switchboard-postgres /run/switchboard-postgres
USER 10001:10001
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-start"]
