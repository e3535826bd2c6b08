# The only thing that faces the network: nginx, which asks for a site's certificate and forwards /v1/fleet/ alone.
# NGINX_IMAGE is any image with bash and nginx 1.18 or later with its stream module (Debian: libnginx-mod-stream); it is stripped as the others are.

# With its digest: docker/build.sh gives it, from docker/base-images.txt.
ARG NGINX_IMAGE

FROM ${NGINX_IMAGE} AS runtime
COPY docker/strip-runtime.sh /strip-runtime.sh
RUN sh /strip-runtime.sh && rm -rf /strip-runtime.sh /docker-entrypoint* /etc/nginx/conf.d /etc/nginx/sites-enabled \
 && install -d -o 10001 -g 10001 -m 0700 /pki
COPY docker/nginx/nginx.conf.template /etc/nginx/fedminet.conf.template
COPY docker/nginx/serve.sh /opt/serve.sh

# One layer: what was taken away is in no layer below either.
FROM scratch
# hadolint ignore=DL3067
COPY --from=runtime / /
ARG VERSION=unknown
LABEL org.opencontainers.image.title="fedminet proxy" \
      org.opencontainers.image.version="${VERSION}"
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    FEDMINET_UPSTREAM=coordinator:9443
USER 10001:10001
WORKDIR /
STOPSIGNAL SIGTERM
EXPOSE 443
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s --retries=3 CMD ["bash", "/opt/serve.sh", "health"]
ENTRYPOINT ["bash", "/opt/serve.sh"]
CMD ["serve"]
