# Cutover's gateway: control process, proxies and workers in one container.
#   docker build -t cutover .
#   docker run -p 8001:8001 -p 8002:8002 -v "$PWD/models:/models:ro" -v cutover-state:/state cutover
# Inference (8001, in clear unless --tls-cert and --tls-key are given) and metrics and health (8002) answer from outside
# the container; the admin API stays on its loopback: `docker exec <container> cutover status`.

FROM python:3.13-slim AS build
WORKDIR /src
COPY deploy/requirements.lock .
RUN python -m venv /opt/cutover \
 && /opt/cutover/bin/pip install --no-cache-dir --disable-pip-version-check --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY gateway gateway
COPY workers workers
COPY loadtests loadtests
RUN /opt/cutover/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.13-slim
COPY --from=build /opt/cutover /opt/cutover
ENV PATH=/opt/cutover/bin:$PATH PYTHONUNBUFFERED=1
RUN mkdir /models /state && chown 65532:65532 /state
USER 65532:65532
VOLUME /state
EXPOSE 8001 8002
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["cutover", "health"]
ENTRYPOINT ["cutover"]
CMD ["serve", "--models", "/models", "--state", "/state", "--host", "0.0.0.0", "--http-host", "0.0.0.0", \
     "--allow-plaintext"]
