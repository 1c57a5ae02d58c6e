#!/usr/bin/env bash
# Keeps EVA's review server and agent running on a RunPod pod, beside ComfyUI.
#
#   bash deploy/runpod_start.sh start [OPTIONS OF run_agent_qa.py]     starts both (again: does nothing)
#   bash deploy/runpod_start.sh stop | status | restart
#
# A process that fails is started again, at most every 5 s and ever more slowly up to 60 s. Exit codes 0 (done), 2 (wrong
# usage) and 130 (interrupted) end it for good. Logs: LOG_DIR/server.log, agent.log, access.log. ROLES=server (or agent)
# means only that one. On a pod without EVA_TOKEN a token is made once and kept in ROOT/token; `status` prints the address.
set -u

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
root="${WAN22_SYSTEM_DIR:-$([ -d /workspace/wan22_system ] && echo /workspace/wan22_system || echo "$here")}"
LOG_DIR="${LOG_DIR:-$root/logs}"
RUN_DIR="${RUN_DIR:-$root/run}"
PYTHON="${PYTHON:-$([ -x "$here/.venv/bin/python" ] && echo "$here/.venv/bin/python" || command -v python3 || echo python)}"
ROLES="${ROLES:-server agent}"
KEEP_BYTES=10000000
export PYTHONUNBUFFERED=1

rotate() { # the log grows past its limit only while a process runs; each start cuts it down to one old copy
    local log="$1"
    if [ -f "$log" ] && [ "$(wc -c <"$log")" -gt "$KEEP_BYTES" ]; then mv -f "$log" "$log.1"; fi
}

watch_over() { # in the background: runs one role until it ends for good
    local role="$1" pause=5 began code child=""
    shift
    trap 'trap "" TERM; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null && wait "$child"; rm -f "$RUN_DIR/$role.pid"; exit 0' TERM INT
    cd "$here" || exit 1
    local words=()
    case "$role" in
    server) words=("$PYTHON" "$here/simple_web_server.py" --access-log "$LOG_DIR/access.log") ;;
    agent) words=("$PYTHON" "$here/run_agent_qa.py" "$@") ;;
    esac
    while true; do
        rotate "$LOG_DIR/$role.log"
        (umask 077; : >>"$LOG_DIR/$role.log") # the server prints its address into it, with the token
        began=$SECONDS
        "${words[@]}" >>"$LOG_DIR/$role.log" 2>&1 &
        child=$!
        wait "$child"
        code=$?
        echo "$(date -u +%FT%TZ) $role ended with exit code $code" >>"$LOG_DIR/$role.log"
        case "$code" in 0 | 2 | 130) break ;; esac
        [ $((SECONDS - began)) -gt 120 ] && pause=5
        sleep "$pause" &
        child=$!
        wait "$child"
        pause=$((pause * 2 > 60 ? 60 : pause * 2))
    done
    rm -f "$RUN_DIR/$role.pid"
}

is_up() { # a folder that outlived its pod holds numbers that other processes have by now
    local pid
    [ -f "$RUN_DIR/$1.pid" ] && pid="$(cat "$RUN_DIR/$1.pid")" && kill -0 "$pid" 2>/dev/null || return 1
    [ ! -r "/proc/$pid/cmdline" ] || grep -qa "$(basename "${BASH_SOURCE[0]}")" "/proc/$pid/cmdline"
}

start() {
    mkdir -p "$LOG_DIR" "$RUN_DIR" || exit 1
    if [ -n "${RUNPOD_POD_ID:-}" ] && [ -z "${EVA_TOKEN:-}" ]; then # one token for good, so that a restart logs nobody out
        (umask 077; [ -s "$root/token" ] || "$PYTHON" -c 'import secrets; print(secrets.token_urlsafe(24))' >"$root/token")
        EVA_TOKEN="$(cat "$root/token")"
        export EVA_TOKEN
    fi
    for role in $ROLES; do
        if is_up "$role"; then
            echo "$role runs already"
            continue
        fi
        watch_over "$role" "$@" </dev/null >/dev/null 2>&1 &
        echo $! >"$RUN_DIR/$role.pid"
        echo "$role started; its log: $LOG_DIR/$role.log"
    done
}

stop() {
    local role pid
    for role in $ROLES; do
        is_up "$role" || { echo "$role does not run"; continue; }
        pid="$(cat "$RUN_DIR/$role.pid")"
        kill -TERM "$pid"
        for _ in $(seq 600); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        rm -f "$RUN_DIR/$role.pid"
        echo "$role stopped"
    done
}

status() {
    local role code=0
    for role in $ROLES; do
        if is_up "$role"; then echo "$role runs (watched by process $(cat "$RUN_DIR/$role.pid"))"; else
            echo "$role does not run"
            code=1
        fi
    done
    if is_up server; then grep -ahoE '^https?://[^ ]+' "$LOG_DIR/server.log" 2>/dev/null | tail -1; fi
    return "$code"
}

case "${1:-}" in
start) shift; start "$@" ;;
stop) stop ;;
restart) shift; stop; start "$@" ;;
status) status ;;
*)
    sed -n '2,9p' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
