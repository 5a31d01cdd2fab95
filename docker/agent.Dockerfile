# What agents placed in `docker` run in: the four CLIs, for the user 10001. Built by: make images
ARG BASE_IMAGE=node:22-bookworm-slim
FROM ${BASE_IMAGE}
RUN mkdir -p /usr/local/bin /opt/agent \
    && for name in claude codex gemini opencode; do ln -s /opt/agent/node_modules/.bin/$name /usr/local/bin/$name; done \
    && echo 'agent:x:10001:10001:agent:/home/agent:/bin/bash' >> /etc/passwd && echo 'agent:x:10001:' >> /etc/group
COPY node_modules /opt/agent/node_modules
USER 10001:10001
