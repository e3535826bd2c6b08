# The coordinator: SuperLink, SuperExec and the server application, kept running by `fedminet server start`.
# Built by docker/build.sh without network. The stages build and runtime are those of site.Dockerfile, so they are made once.

# With its digest: docker/build.sh gives it, from docker/base-images.txt.
ARG BASE_IMAGE

FROM ${BASE_IMAGE} AS build
ARG ACCELERATOR=cpu
COPY wheels/${ACCELERATOR} /build/wheels
# Exactly what was fetched, at the versions of constraints.txt, and nothing that pip would choose.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --no-cache-dir --no-index --no-deps /build/wheels/*.whl \
 && /opt/venv/bin/python -m pip check

FROM build AS code
COPY wheels/fedminet /build/fedminet
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-index --no-deps --target /opt/fedminet /build/fedminet/*.whl

FROM ${BASE_IMAGE} AS runtime
COPY --from=build /opt/venv /opt/venv
COPY docker/strip-runtime.sh /strip-runtime.sh
RUN sh /strip-runtime.sh && rm /strip-runtime.sh \
 && install -d -o 10001 -g 10001 -m 0700 /coordinator /site \
 && echo /opt/fedminet > "$(echo /opt/venv/lib/python3*/site-packages)/fedminet.pth"
COPY docker/health.py /opt/health.py

# Two layers: what was taken away is in none, and an upgrade of fedminet alone is the small one.
FROM scratch
# hadolint ignore=DL3067
COPY --from=runtime / /
COPY --from=code /opt/fedminet /opt/fedminet
ARG VERSION=unknown
LABEL org.opencontainers.image.title="fedminet coordinator" \
      org.opencontainers.image.version="${VERSION}"
ENV PATH=/opt/fedminet/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1
USER 10001:10001
WORKDIR /coordinator
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s --retries=3 \
  CMD ["python", "-I", "-S", "/opt/health.py", "coordinator"]
ENTRYPOINT ["fedminet"]
CMD ["server", "start", "/coordinator"]
