# docker build -t IMAGE .                       for GPUs
# docker build -t IMAGE --build-arg BUILD=cpu . without
#
# The wheels of torch bring their CUDA libraries; the host needs NVIDIA's driver and container toolkit alone.
FROM docker.io/library/python:3.11-slim-bookworm

ARG BUILD=cuda
# The driver that torch's CUDA needs: without it the container does not start.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_REQUIRE_CUDA="cuda>=13.0" \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /opt/dlrm-mtl

# A compiler builds the C extension of the balancing layer; at run time Triton compiles what starts its kernels. NCCL
# opens the libraries of InfiniBand and RoCE.
RUN apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends gcc libc6-dev libibverbs1 ibverbs-providers librdmacm1 && \
    rm -rf /var/lib/apt/lists/*

# Dependencies are a layer of their own, which a change of code does not touch.
COPY pyproject.toml README.md ./
COPY launch/install.sh launch/
RUN PIP_NO_CACHE_DIR=1 BUILD=$BUILD EXTRAS=torchjd launch/install.sh /opt/venv

COPY setup.py ./
COPY dlrm_mtl dlrm_mtl
COPY data_prep data_prep
RUN pip install --quiet --no-cache-dir --no-deps -e . && \
    useradd --uid 1000 --create-home ranker

USER 1000
CMD ["python", "-m", "dlrm_mtl.train", "--help"]
