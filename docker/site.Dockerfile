# A site: the node that speaks with the coordinator, and the trainer that sees the scans. One image, two containers
# (docker/compose.site.yaml): the trainer has no network, the node has no scans.
# Built by docker/build.sh without network. ACCELERATOR=cuda takes torch's wheels with CUDA; the driver comes from the
# host by NVIDIA's container runtime.

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
ARG ACCELERATOR=cpu
ARG VERSION=unknown
LABEL org.opencontainers.image.title="fedminet site" \
      org.opencontainers.image.version="${VERSION}" \
      fedminet.accelerator="${ACCELERATOR}"
# The two NVIDIA variables are read by NVIDIA's runtime and by nothing else.
ENV PATH=/opt/fedminet/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /site
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s --retries=3 \
  CMD ["python", "-I", "-S", "/opt/health.py", "site"]
ENTRYPOINT ["fedminet"]
CMD ["site", "start", "/site"]
