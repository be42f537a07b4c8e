#!/usr/bin/env bash
# Has clients of pymediasoup meet at a node, on aiortc and on libwebrtc. Needs Python 3.11 with venv; skipped without PyPI.
#
# E2E_BIN is the binary, else target/release/sluice.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=target/pymediasoup
mkdir -p "$folder"
for engine in aiortc wrtc; do
  [ -d "$folder/$engine" ] || python3 -m venv "$folder/$engine"
  packages=(-r deploy/pymediasoup/requirements.txt)
  [ "$engine" = wrtc ] && packages+=(wrtc==0.1.0)
  # Debian's packages are all that a machine is promised to reach.
  if ! "$folder/$engine/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"; then
    echo "SKIPPED: without PyPI there are no clients of pymediasoup"
    exit 0
  fi
done

port=$((10003 + RANDOM % 180 * 100))
"${E2E_BIN:-target/release/sluice}" dev --nodes 1 --base-port "$port" >"$folder/node.log" 2>&1 &
node=$!
trap 'kill -INT $node; wait $node || true' EXIT
until python3 -c "import urllib.request as http; http.urlopen('http://127.0.0.1:$port/readyz')" 2>/dev/null; do
  kill -0 $node
done

for engine in aiortc wrtc; do
  "$folder/$engine/bin/python" deploy/pymediasoup/meet.py "$engine" "ws://127.0.0.1:$port"
done
