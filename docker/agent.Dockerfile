# What agents placed in `docker` run in: the four CLIs, for the user 10001. Built by: make images
ARG BASE_IMAGE=node:22-bookworm-slim
FROM ${BASE_IMAGE}
RUN mkdir -p /usr/local/bin /opt/agent \
    && echo 'agent:x:10001:10001:agent:/home/agent:/bin/bash' >> /etc/passwd && echo 'agent:x:10001:' >> /etc/group
COPY node_modules /opt/agent/node_modules
COPY bin /usr/local/bin
USER 10001:10001
