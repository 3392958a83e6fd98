# Images of the server programs: one target each.
#   docker build --target manager -t keelson-manager .
#   docker build --target node -t keelson-node .
#   docker build --target gateway -t keelson-gateway .
#   docker build --target dns -t keelson-dns .

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=v0.0.0-dev
ARG COMMIT=unknown
# As in the Makefile, which says why.
ENV CGO_ENABLED=0 GOFLAGS=-tags=grpcnotrace
RUN LDFLAGS="-s -w -X github.com/keelson-dev/keelson/version.gitVersion=${VERSION} -X github.com/keelson-dev/keelson/version.gitCommit=${COMMIT}" \
 && go build -trimpath -ldflags "${LDFLAGS}" -o /out/keelson-manager ./cmd/manager \
 && go build -trimpath -ldflags "${LDFLAGS}" -o /out/keelson-node ./cmd/nodeagent \
 && go build -trimpath -ldflags "${LDFLAGS}" -o /out/keelson-gateway ./cmd/gateway \
 && go build -trimpath -ldflags "${LDFLAGS}" -o /out/keelson-dns ./cmd/dns \
 && make -C build/pause OUT=/out/pause \
 && make -C build/logger OUT=/out/keelson-logger

# The manager needs nothing but itself and runs as nobody in particular.
FROM gcr.io/distroless/static-debian12:nonroot AS manager
COPY --from=build /out/keelson-manager /keelson-manager
ENTRYPOINT ["/keelson-manager"]

# So does the gateway.
FROM gcr.io/distroless/static-debian12:nonroot AS gateway
COPY --from=build /out/keelson-gateway /keelson-gateway
ENTRYPOINT ["/keelson-gateway"]

# And the cluster's DNS, which config/dns runs.
FROM gcr.io/distroless/static-debian12:nonroot AS dns
COPY --from=build /out/keelson-dns /keelson-dns
ENTRYPOINT ["/keelson-dns"]

# The node agent calls iptables and needs the machine: run it with
# --privileged --network=host --pid=host, with containerd's socket and the folders
# /run/keelson, /var/lib/keelson and /var/log shared.
FROM debian:12-slim AS node
RUN apt-get update \
 && apt-get install -y --no-install-recommends iptables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/keelson-node /out/pause /out/keelson-logger /usr/local/bin/
ENTRYPOINT ["keelson-node"]
