# The environment and the project in an image; its command is `make demo`.
#   docker build --tag corrloss .
#   docker run --rm --volume "$PWD/results:/corrloss/results" --volume "$PWD/data:/corrloss/data" corrloss
# For GPUs, with the architectures to build for (8.0 is A100, 9.0 is H100):
#   docker build --tag corrloss --build-arg BASE=nvidia/cuda:13.0.1-devel-ubuntu24.04 \
#     --build-arg TORCH_CUDA_ARCH_LIST="8.0 9.0" .
#   docker run --rm --gpus all --volume /data:/data corrloss \
#     snakemake nms_free --workflow-profile workstation --config scale=paper data_root=/data
# Not built by us: no container could be built where this was written.
ARG BASE=python:3.11-bookworm
FROM ${BASE}
ARG TORCH_CUDA_ARCH_LIST=""

# libgl1 and libglib2.0-0 are OpenCV's; uv brings Python where the base has another one.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends curl g++ git libgl1 libglib2.0-0 make \
  && { python3 -m pip --version || apt-get install --yes --no-install-recommends python3-pip; } \
  && rm -rf /var/lib/apt/lists/* \
  && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir uv

# First what decides the environment: mmcv is not built again for an edit of the code.
WORKDIR /corrloss
COPY requirements.lock pyproject.toml README.md LICENSE Makefile ./
COPY workflows/setup.sh workflows/
RUN mkdir corrloss && touch corrloss/__init__.py \
  && export PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 \
  && if [ -n "$TORCH_CUDA_ARCH_LIST" ]; then export TORCH_CUDA_ARCH_LIST FORCE_CUDA=1; fi \
  && make setup PYTHON=3.11
COPY . .
ENV PATH=/corrloss/.venv/bin:$PATH
CMD ["make", "demo"]
