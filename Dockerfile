# syntax=docker/dockerfile:1
# Separation in a container, for CPUs:
#     docker build -t bandsplit .
#     docker run --rm -v "$PWD:/songs" -v bandsplit-cache:/cache --user "$(id -u)" bandsplit separate SONG.wav --yes
# With CUDA (docker run --gpus all), the address that https://pytorch.org/get-started names:
#     docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t bandsplit:cuda .
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras, separated by commas; av reads m4a, mp4 and webm.
ARG EXTRAS=av
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /build
COPY constraints.txt ./
RUN python -m venv /opt/bandsplit \
    && /opt/bandsplit/bin/pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN PIP_BUILD_CONSTRAINT=constraints.txt /opt/bandsplit/bin/pip install -c constraints.txt ".${EXTRAS:+[$EXTRAS]}" \
    && /opt/bandsplit/bin/pip uninstall --yes pip

FROM python:${PYTHON}-slim
# Any user may write the cache, so that --user can be the owner of the songs.
RUN useradd --uid 1000 --create-home bandsplit && mkdir -m 1777 /cache /songs
COPY --from=build /opt/bandsplit /opt/bandsplit
ENV PATH=/opt/bandsplit/bin:$PATH BANDSPLIT_CACHE=/cache HF_HOME=/cache/hf PYTHONUNBUFFERED=1
USER 1000
WORKDIR /songs
VOLUME ["/cache"]
ENTRYPOINT ["bandsplit"]
CMD ["--help"]
