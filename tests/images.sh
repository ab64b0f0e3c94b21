#!/usr/bin/env bash
# Makes the images that the examples of config-examples/ are tested with; nothing is pulled. What takes minutes (a Debian by
# debootstrap, the packages that an example's Dockerfile installs) is made once for a Docker engine and kept there.
#
#   tests/images.sh consul|etcd         pilotfish-test-consul, pilotfish-test-etcd: a store of the tests in a container
#   tests/images.sh example NAME TAG    TAG: config-examples/NAME with the binary named in PILOTFISH, which alone is TAG-pilotfish
#   tests/images.sh beside FOLDER TAG   TAG: FOLDER, which has what an example is measured beside
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
debian=pilotfish-test-debian:bookworm
export DOCKER_BUILDKIT=0 # the classic builder is in the engine itself; the other one is a plugin that may not be there
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotfish-images.XXXXXX")
trap 'rm -rf "$work"' EXIT
exec 9>"${TMPDIR:-/tmp}/pilotfish-images.lock"
flock 9

has() { docker image inspect "$1" >/dev/null 2>&1; }

# build TAG OPTION...: quiet unless it fails. On the host's network, for the packages come from where the machine's own do.
build() {
    if ! docker build --network host --tag "$1" "${@:2}" >"$work/log" 2>&1; then
        tail -n 30 "$work/log" >&2
        echo "images: $1 can't be built" >&2
        exit 1
    fi
}

needs_debian() {
    ! has $debian || return 0
    echo "images: making $debian"
    local mirror
    # shellcheck disable=SC2016 # apt's own variable
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null | head -n 1 || true)
    if ! debootstrap --variant=minbase bookworm "$work/root" ${mirror:+"$mirror"} >"$work/log" 2>&1; then
        tail -n 30 "$work/log" >&2
        echo "images: debootstrap failed" >&2
        exit 1
    fi
    tar -C "$work/root" --exclude './var/cache/apt/archives/*.deb' --exclude './var/lib/apt/lists/*_*' -c . | docker import - $debian >/dev/null
}

case ${1:-} in
consul | etcd)
    ! has "pilotfish-test-$1" || exit 0
    needs_debian
    mkdir "$work/store"
    # etcd's own image has no entrypoint, Consul's has one. Of the etcds that are fetched the newer one.
    case $1 in
    consul) cp .servers/consul "$work/store/consul" && entrypoint='ENTRYPOINT ["consul"]' ;;
    etcd) cp .servers/etcd35 "$work/store/etcd" && entrypoint="" ;;
    esac
    printf 'FROM %s\nCOPY %s /usr/local/bin/\n%s\n' $debian "$1" "$entrypoint" >"$work/store/Dockerfile"
    build "pilotfish-test-$1" "$work/store"
    ;;
example)
    name=$2 tag=$3
    needs_debian
    cp -r "config-examples/$name" "$work/example"
    cp "$(realpath "${PILOTFISH:?the pilotfish binary to test}")" "$work/example/pilotfish-binary"
    printf 'FROM scratch\nCOPY pilotfish-binary /pilotfish\n' >"$work/example/pilotfish.Dockerfile"
    build "$tag-pilotfish" --file "$work/example/pilotfish.Dockerfile" "$work/example"
    rm "$work/example/pilotfish-binary"
    # Kept under a name, so that they are there the next time.
    build "pilotfish-test-$name-packages" --build-arg "BASE=$debian" --build-arg "PILOTFISH=$tag-pilotfish" --target packages "$work/example"
    build "$tag" --build-arg "BASE=$debian" --build-arg "PILOTFISH=$tag-pilotfish" "$work/example"
    ;;
beside)
    folder=$2 tag=$3
    needs_debian
    build "pilotfish-test-$(basename "$folder")-packages" --build-arg "BASE=$debian" --target packages "$folder"
    build "$tag" --build-arg "BASE=$debian" "$folder"
    ;;
*)
    echo "usage: tests/images.sh consul | etcd | example NAME TAG | beside FOLDER TAG" >&2
    exit 64
    ;;
esac
