# The gateway, for a base with the Python that installed `site`. Built by: make images
#   docker run -d --init --network host -v /var/lib/switchboard:/var/lib/switchboard switchboard-gateway
# For agents in containers: -v /var/run/docker.sock:/var/run/docker.sock, and the data directory under one path on both sides.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY site /opt/switchboard/site
COPY app /opt/switchboard/app
COPY switchboard /usr/local/bin/switchboard
RUN python3 -m compileall -q /opt/switchboard/app
ENV PYTHONPATH=/opt/switchboard/app:/opt/switchboard/site PYTHONUNBUFFERED=1 SWITCHBOARD_DATA_DIR=/var/lib/switchboard
WORKDIR /opt/switchboard/app
EXPOSE 8000
CMD ["python3", "-m", "gateway"]
