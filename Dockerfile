# The demo in a container; written without Docker to run it, tests/test_project_files.py checks the names in it.
#   docker build -t perception3d .
#   docker run --rm -v "$PWD/work_dirs:/perception3d/work_dirs" perception3d
FROM python:3.12-slim

# libgomp is torch's; the set-up needs no compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends make libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /perception3d
COPY . .
RUN make setup CPU=1 PYTHON=python3.12 && rm -rf /root/.cache/pip

CMD ["make", "demo", "CPU=1"]
