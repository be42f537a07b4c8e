#!/usr/bin/env bash
# Runs every test on a Debian machine that has Rust and a C compiler; what else is needed (Node.js, Chromium, Firefox, Python,
# nginx, coturn's client, OpenSSL, nftables) it installs first. Ends with cargo's own summaries.
#
# Without Chromium and Node.js, `cargo test --workspace` alone runs all tests that are not of the web pages.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n==> %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Where Debian has nginx, ip and nft, and looks for them only as root.
PATH="$PATH:/usr/sbin"

missing=()
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v chromium >/dev/null || missing+=(chromium)
command -v firefox-esr >/dev/null || missing+=(firefox-esr)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v nginx >/dev/null || missing+=(nginx-light)
command -v turnutils_uclient >/dev/null || missing+=(coturn)
command -v openssl >/dev/null || missing+=(openssl)
command -v ip >/dev/null || missing+=(iproute2)
command -v nft >/dev/null || missing+=(nftables)
if [ ${#missing[@]} -gt 0 ]; then
  step "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  # The tests start their own nginx, and use coturn's client alone: Debian's services, which take ports, are not wanted.
  case " ${missing[*]} " in *" nginx-light "*) as_root systemctl disable --quiet --now nginx 2>/dev/null || true ;; esac
  case " ${missing[*]} " in *" coturn "*) as_root systemctl disable --quiet --now coturn 2>/dev/null || true ;; esac
fi

step "the binaries"
cargo build --release --locked -p sluice-node -p sluice-loadtest

step "what the web pages share: packages, types"
npm ci --ignore-scripts --no-audit --no-fund
npm --prefix node/web/kit run --silent check

# One by one: npm 9, which Debian has, hides failures of `run --workspaces`.
for page in node/web/room loadtest/report; do
  step "$page: types, unit tests, bundle"
  npm --prefix "$page" run --silent check
  npm --prefix "$page" run --silent test
  npm --prefix "$page" run --silent check-dist
done

E2E_BIN="$PWD/target/release/sluice"
E2E_LOADTEST="$PWD/target/release/sluice-loadtest"
E2E_CHROMIUM="$(command -v chromium)"
E2E_FIREFOX="$(command -v firefox-esr)"
export E2E_BIN E2E_LOADTEST E2E_CHROMIUM E2E_FIREFOX

step "the room page in browsers (screenshots and logs: target/e2e)"
npm --prefix node/web/room run --silent e2e

step "clients of both dialects: three versions of mediasoup-client, libdatachannel, every codec, links that narrow and lose"
npm --prefix node/web/demo-clients run --silent check
npm --prefix node/web/demo-clients run --silent e2e

step "clients of pymediasoup, on aiortc and on libwebrtc"
deploy/pymediasoup/run.sh

step "reports of load tests in a browser, of runs that are made up"
cargo test --workspace --locked --test report
npm --prefix loadtest/report run --silent e2e

step "cargo test"
cargo test --workspace --locked
