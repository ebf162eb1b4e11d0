# The exporter's image: Python, its libraries and vgpumonitor, without a shell or a package manager.
#
#   docker build -t vgpumonitor .                                    with a Docker engine
#   docker buildx build --platform linux/amd64,linux/arm64 .         for both machines
#   deploy/image/build                                               without an engine (buildah)

ARG BASE=debian:bookworm-20250929-slim

FROM ${BASE} AS build
ARG PIP_CERT
RUN apt-get update && apt-get install --yes --no-install-recommends \
        ca-certificates python3-venv && \
    python3 -m venv /venv

# Everything that python3.11 needs at run time, from Debian's own packages, and nothing that pulls in
# a shell. A package's record goes where image scanners look for it when there is no dpkg.
WORKDIR /packages
RUN apt-get -o APT::Sandbox::User=root download \
        libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 liblzma5 libssl3 libuuid1 \
        libpython3.11-minimal libpython3.11-stdlib media-types netbase \
        python3.11-minimal zlib1g && \
    mkdir -p /image/var/lib/dpkg/status.d && \
    for package in *.deb; do \
        dpkg-deb --extract "$package" /image && \
        dpkg-deb --field "$package" > "/image/var/lib/dpkg/status.d/${package%%_*}" || exit 1; \
    done && \
    mkdir -p /image/tmp /image/proc /image/sys /image/dev /image/etc/ssl/certs && \
    chmod 1777 /image/tmp && \
    cp -L /etc/ssl/certs/*.[0-9] /image/etc/ssl/certs/ && \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf && \
    printf '%s\n' 'root:x:0:0::/:/' 'vgpumonitor:x:65532:65532::/:/' > /image/etc/passwd && \
    printf '%s\n' 'root:x:0:' 'vgpumonitor:x:65532:' > /image/etc/group && \
    find /image/usr/share/doc -type f ! -name copyright -delete && \
    rm -rf /image/usr/share/man /image/usr/share/lintian /image/usr/share/bug \
        /image/usr/lib/*/gconv

# Versions and hashes are pinned; deploy/image/lock writes the two files again.
WORKDIR /source
COPY deploy/image/build-requirements.txt deploy/image/requirements.txt ./
RUN /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r build-requirements.txt && \
    /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --no-compile \
        --target /image/opt/vgpumonitor -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY vgpumonitor vgpumonitor
RUN /venv/bin/pip install --no-cache-dir --no-build-isolation --no-deps --no-compile \
        --target /image/opt/vgpumonitor . && \
    mkdir -p /image/usr/share/doc/vgpumonitor && \
    cp LICENSE /image/usr/share/doc/vgpumonitor/copyright && \
    rm -rf /image/opt/vgpumonitor/bin && \
    printf '%s\n' '#!/usr/bin/python3.11' 'from vgpumonitor.cli import main' 'main()' \
        > /image/usr/bin/vgpumonitor && \
    chmod 0755 /image/usr/bin/vgpumonitor && \
    ldconfig -r /image && \
    python3 -m compileall -q -s /image --invalidation-mode unchecked-hash \
        /image/usr/lib/python3.11 /image/opt/vgpumonitor

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="vgpumonitor" \
      org.opencontainers.image.description="Prometheus exporter for GPUs shared through HAMi-core" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
# The NVIDIA container runtime reads those named NVIDIA: all GPUs, and NVML only. glibc reads those
# named MALLOC: the threads share one heap, and what a scrape took stays at hand for the next one
# instead of being mapped, cleared and unmapped each time. Two more keep 2.5 MiB free: aiohttp's
# signals need no list in C++, for which libstdc++ is not even here; and authorities in a directory
# are read when one is asked for, those in one file always.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=utility \
    FROZENLIST_NO_EXTENSIONS=1 \
    MALLOC_ARENA_MAX=1 \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=67108864 \
    PATH=/usr/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/vgpumonitor \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_DIR=/etc/ssl/certs
USER 65532:65532
EXPOSE 9394
ENTRYPOINT ["/usr/bin/vgpumonitor"]
CMD ["serve"]
