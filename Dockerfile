# Our four programs in one image; compose.yaml says which one a container runs.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
        -p hubbub-edge-server -p hubbub-api-server -p hubbub-consumer -p hubbub-cli --bins \
    && mkdir /out \
    && cp target/release/hubbub-edge-server target/release/hubbub-api-server \
          target/release/hubbub-consumer target/release/hubbub /out/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home hubbub \
    && install -d -o hubbub -g hubbub -m 0750 /run/hubbub
COPY --from=build /out/ /usr/local/bin/
COPY --chmod=0755 <<'SCRIPT' /usr/local/bin/hubbub-ready
#!/bin/bash
# Asks the ops port whether the server is ready. The image has no HTTP client.
exec 3<>/dev/tcp/127.0.0.1/9100 || exit 1
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 2 _ status _ <&3 && [[ $status == 200 ]]
SCRIPT
USER hubbub
