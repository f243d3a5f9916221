# Two images from one file: `service` (the API, the migrations, the command line; no torch) and `worker` (what trains).
#
#     docker build --target service -t finebits-service .
#     docker build --target worker -t finebits-worker .        # torch with CUDA, from pip's default index
#     docker build --target worker -t finebits-worker-cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#     docker build --target worker -t finebits-worker-gptq --build-arg EXTRAS=gptq .   # with more than every worker has
#
# Secrets come from the environment when a container starts; none is in a layer, and .dockerignore lets none into the build.

FROM python:3.11.15-slim AS base
# Whatever uid a container runs as: a home that is no volume, and a name where the libraries ask for one.
ENV PATH=/opt/finebits/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TZ=UTC \
    HOME=/tmp \
    LOGNAME=finebits
WORKDIR /

# -- what each image needs of other people's work; changes seldom -------------------------------------------------------

FROM base AS service-libraries
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/finebits
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['s3'], sep='\n')" > service.txt
RUN --mount=type=cache,target=/tmp/.cache/pip pip install -c constraints.txt -r service.txt

FROM service-libraries AS worker-libraries
# torch first and alone: where it comes from depends on the host, and it is most of the image
ARG TORCH_INDEX=
RUN --mount=type=cache,target=/tmp/.cache/pip pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['worker'], sep='\n')" > worker.txt
RUN --mount=type=cache,target=/tmp/.cache/pip pip install -c constraints.txt -r worker.txt
# what else it is to have, such as gptq; it pins other versions than constraints.txt, so that is left out here
ARG EXTRAS=
RUN python -c "import sys, tomllib; e = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*(line for name in sys.argv[1].split(',') if name for line in e[name]), sep='\n')" "$EXTRAS" > extras.txt
RUN --mount=type=cache,target=/tmp/.cache/pip if [ -n "$EXTRAS" ]; then pip install -r worker.txt -r extras.txt; fi

# -- our own, which changes often ---------------------------------------------------------------------------------------

FROM service-libraries AS service-build
COPY README.md LICENSE ./
COPY migrations migrations
COPY service service
RUN pip install --no-deps .

FROM worker-libraries AS worker-build
COPY README.md LICENSE ./
COPY migrations migrations
COPY service service
COPY worker worker
RUN pip install --no-deps .

# -- the images ---------------------------------------------------------------------------------------------------------

FROM base AS service
COPY --from=service-build /opt/finebits /opt/finebits
USER 10001:10001
EXPOSE 8765
CMD ["finebits", "serve"]

FROM base AS worker
COPY --from=worker-build /opt/finebits /opt/finebits
USER 10001:10001
CMD ["python", "-m", "worker"]
