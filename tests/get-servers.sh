#!/bin/bash
# get-servers.sh DIR: puts consul, etcd, etcdctl, etcd35 and etcdctl35 into DIR, for the tests, from signed Debian
# packages. Installs nothing, touches no apt source of the machine and starts no service. Does nothing for what is
# there already; two runs at a time wait for each other.
#
#   consul            1.8.7, the last Consul in Debian: suite bullseye
#   etcd, etcdctl     3.4: suite bookworm
#   etcd35, etcdctl35 3.5: suite trixie
#
# The mirror and the keyring are those of the machine's own Debian source, with only the suite's name replaced. apt
# checks each suite's Release against that keyring and each package against the signed index, in a state directory of
# its own; whatever doesn't check out ends this with nothing put in DIR.
set -euo pipefail

dir=${1:?usage: get-servers.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
exec 9>"$dir/.lock"
flock 9

say() { printf 'get-servers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# source_of CODENAME: "URI KEYRING" of the first enabled Debian source that serves it.
source_of() {
  local want=$1 file
  local default=/usr/share/keyrings/debian-archive-keyring.gpg
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ -e $file ]] || continue
    awk -v want="$want" -v default="$default" '
      BEGIN { RS = ""; FS = "\n" }
      { uri = ""; key = default; hit = 0; on = 1
        for (i = 1; i <= NF; i++) {
          n = split($i, w, /[ \t]+/)
          if (w[1] == "URIs:") uri = w[2]
          if (w[1] == "Signed-By:" && w[2] ~ /^\//) key = w[2]
          if (w[1] == "Enabled:" && tolower(w[2]) == "no") on = 0
          if (w[1] == "Suites:") for (j = 2; j <= n; j++) if (w[j] == want) hit = 1
        }
        if (hit && on && uri != "") { print uri, key; exit } }' "$file"
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [[ -e $file ]] || continue
    awk -v want="$want" -v default="$default" '$1 == "deb" {
      i = 2; key = default
      if ($2 ~ /^\[/) {
        for (;; i++) {
          if (match($i, /signed-by=[^] ]+/)) key = substr($i, RSTART + 10, RLENGTH - 10)
          if ($i ~ /\]$/) break
        }
        i++
      }
      if ($(i + 1) == want) { print $i, key; exit } }' "$file"
  done
}

work=
trap '[[ -z $work ]] || rm -rf "$work"' EXIT

# unpack SUITE PACKAGE...: downloads, checks and unpacks into $work/SUITE/files.
unpack() {
  local suite=$1
  shift
  local here uri keyring
  here=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  read -r uri keyring < <(source_of "$here" | head -n 1) || true
  [[ -n ${uri:-} ]] || die "no Debian source for '$here' under /etc/apt"
  [[ -r $keyring ]] || die "$keyring can't be read (package debian-archive-keyring)"
  [[ -n $work ]] || work=$(mktemp -d)
  local root=$work/$suite arch
  arch=$(dpkg --print-architecture)
  mkdir -p "$root"/{state/lists/partial,cache/archives/partial,log,deb,files}
  : >"$root/status"
  echo "deb [signed-by=$keyring arch=$arch] $uri $suite main" >"$root/sources.list"
  local apt=(apt-get -qq
    -o "Dir::State=$root/state" -o "Dir::State::status=$root/status"
    -o "Dir::Cache=$root/cache" -o "Dir::Log=$root/log"
    -o "Dir::Etc::SourceList=$root/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o "APT::Architecture=$arch" -o "APT::Architectures=$arch"
    -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::AllowInsecureRepositories=false
    -o APT::Get::AllowUnauthenticated=false
    # A failed fetch or signature is otherwise a warning, and an old index is used.
    -o APT::Update::Error-Mode=any
    # The state is root's own; apt's sandbox user couldn't write there.
    -o "APT::Sandbox::User=$(id -un)")
  "${apt[@]}" update
  local package
  for package; do
    (cd "$root/deb" && "${apt[@]}" download "$package")
    dpkg-deb -x "$root"/deb/"$package"_*.deb "$root/files"
  done
}

# take FROM NAME: a program appears in DIR whole or not at all.
take() { install -m 755 "$1" "$dir/.$2.new" && mv "$dir/.$2.new" "$dir/$2"; }

if [[ ! -x $dir/consul ]]; then
  unpack bullseye consul
  take "$work/bullseye/files/usr/bin/consul" consul
  say "$("$dir/consul" version | head -n 1)"
fi
for pair in bookworm: trixie:35; do
  suite=${pair%:*} suffix=${pair#*:}
  [[ ! -x $dir/etcd$suffix || ! -x $dir/etcdctl$suffix ]] || continue
  unpack "$suite" etcd-server etcd-client
  take "$work/$suite/files/usr/bin/etcd" "etcd$suffix"
  take "$work/$suite/files/usr/bin/etcdctl" "etcdctl$suffix"
  say "$("$dir/etcd$suffix" --version | head -n 1)"
done
