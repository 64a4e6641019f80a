#!/usr/bin/env bash
# A Ray head node that accepts `headwater submit`: token authentication always on, dashboard on loopback.
# Runs in the foreground; Ctrl-C ends it. Other machines join with `ray start --address=HEAD:PORT` and the same token.
#
#   infra/ray-head.sh                      ports 6379 and 8265
#   PORT=26379 DASHBOARD_PORT=28265 infra/ray-head.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$root/.venv/bin:$PATH"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
token_file=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "$token_file" ]; then
  mkdir -p "$(dirname "$token_file")"
  (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$token_file")
  echo "made a token in $token_file"
fi
[ ! -e "$token_file" ] || chmod 600 "$token_file"
exec ray start --head --block --port="${PORT:-6379}" \
  --dashboard-host=127.0.0.1 --dashboard-port="${DASHBOARD_PORT:-8265}" "$@"
