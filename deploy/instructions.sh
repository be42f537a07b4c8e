#!/usr/bin/env bash
# Counts the instructions that the media core takes to forward a packet (callgrind, on made-up input that is always the same), and
# compares them with those in node/media/benches/instructions.txt: more than 2% above them is an error.
#
#   deploy/instructions.sh            compares
#   deploy/instructions.sh --update   writes the file
#
# The count depends on the compiler, so it is compared with the same one only. Of processors it needs AVX2: valgrind shows programs one
# and the same processor with that wherever there is one, so code that chooses by what the processor can chooses alike.
set -euo pipefail
cd "$(dirname "$0")/.."

recorded=node/media/benches/instructions.txt
cases="fan-out-50 fan-out-50-layers fan-out-50-small fan-out-50-estimated fan-out-1 route"

if ! command -v valgrind >/dev/null; then
  as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind
fi

compiler="$(rustc --version)"
binary=$(cargo bench --locked -p sluice-media --bench instructions --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')

counted() {
  local out packets collected
  out=$(mktemp)
  packets=$(valgrind --tool=callgrind --toggle-collect='instructions::measured*' --callgrind-out-file=/dev/null --log-file="$out" \
    "$binary" "$1")
  collected=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$out")
  rm "$out"
  echo $((collected / packets))
}

{
  echo "# Instructions per packet that the media core forwards; deploy/instructions.sh --update writes this."
  echo "# $compiler"
  for case in $cases; do echo "$case $(counted "$case")"; done
} >"$recorded.new"
cat "$recorded.new"

if [ "${1:-}" = --update ]; then
  mv "$recorded.new" "$recorded"
  exit
fi
if [ "$(sed -n 2p "$recorded")" != "# $compiler" ]; then
  echo "not compared: the recorded counts are of $(sed -n '2s/# //p' "$recorded")"
  rm "$recorded.new"
  exit
fi
failed=0
for case in $cases; do
  before=$(sed -n "s/^$case //p" "$recorded")
  now=$(sed -n "s/^$case //p" "$recorded.new")
  if [ $((now * 100)) -gt $((before * 102)) ]; then
    echo "error: $case takes $now instructions a packet, $before are recorded"
    failed=1
  fi
done
rm "$recorded.new"
exit $failed
