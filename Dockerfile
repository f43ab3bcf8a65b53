# The workflow with everything that its jobs need, in the tested set of versions:
#
#   docker build -t lqf . && apptainer build lqf.sif docker-daemon://lqf:latest
#   LQF_IMAGE=lqf.sif snakemake --sdm apptainer --cores all
#
# Another index for torch (CUDA or CPU wheels): --build-arg PIP_EXTRA_INDEX_URL=…; for GPUs also run Snakemake
# with --apptainer-args=--nv.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL
WORKDIR /opt/lqf
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt ".[workflow]" \
    && python -m lqf --help > /dev/null

# Snakemake mounts the working folder; nothing is written elsewhere.
ENV MPLCONFIGDIR=/tmp/matplotlib OMP_NUM_THREADS=1
WORKDIR /work
