#!/usr/bin/env bash
# Fuzzes what reads the network: deploy/fuzz.sh [seconds] [target...]
#
# Each target, or each that is named, runs for so many seconds (600). The first input that one of them fails with ends it with an
# error that says where the input is. What is worth keeping is left in node/fuzz/corpus, minimised, for the tests to replay.
#
# It runs on a Debian machine that has Rust; what else is needed (a C++ compiler, cargo-fuzz) it installs first. Nightly Rust is not.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n==> %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

seconds=600
if [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  seconds=$1
  shift
fi

if ! command -v g++ >/dev/null; then
  step "installing g++"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++
fi
if ! command -v cargo-fuzz >/dev/null; then
  step "installing cargo-fuzz"
  # Unoptimised: it only starts others.
  cargo install cargo-fuzz@0.13.1 --locked --debug
fi

# Sanitizers and coverage are features of nightly Rust; this has the stable compiler take them.
export RUSTC_BOOTSTRAP=1

# Runs cargo-fuzz with a command, for a target.
fuzz() {
  local command=$1 target=$2
  shift 2
  local features=()
  if [ "$target" = protoo ]; then features=(--features protoo); fi
  cargo fuzz "$command" --fuzz-dir node/fuzz "${features[@]}" "$target" "$@"
}

mapfile -t all < <(cargo fuzz list --fuzz-dir node/fuzz)
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then targets=("${all[@]}"); fi
for target in "${targets[@]}"; do
  if [[ " ${all[*]} " != *" $target "* ]]; then
    echo "error: there is no target $target; there are: ${all[*]}" >&2
    exit 1
  fi
done

for target in "${targets[@]}"; do
  step "$target, for $seconds s"
  # An input that takes 20 s, or 2 GiB, is a finding too.
  if ! fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1; then
    echo "error: $target fails; the input is the newest file in node/fuzz/artifacts/$target" >&2
    exit 1
  fi
  # How often a line ran makes no input worth keeping, only that it did.
  step "$target: the corpus that is kept"
  fuzz cmin "$target" -- -use_counters=0
  du -sh --apparent-size "node/fuzz/corpus/$target"
done
