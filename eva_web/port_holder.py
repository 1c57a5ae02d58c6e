"""Who holds a port that cannot be had, as far as this user may know."""

from __future__ import annotations

import errno
import http.client
import json
from pathlib import Path

from eva_web.security import redact

_LISTEN = "0A"  # state TCP_LISTEN in /proc/net/tcp: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
ASK_SECONDS = 1.0
LONGEST_COMMAND = 300


def why_not(host: str, port: int, error: OSError) -> str:
    """A sentence for a person: why ``host`` and ``port`` cannot be listened on, who is in the way, and what to do."""
    if error.errno == errno.EACCES:
        return f"this user may not listen on port {port}; choose one above 1023 with --port or SERVER_PORT"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; choose another with --host or SERVER_HOST (0.0.0.0 listens on all)"
    if error.errno != errno.EADDRINUSE and getattr(error, "winerror", None) not in (10013, 10048):
        return f"cannot listen on {host} port {port}: {error.strerror or error}; choose another with --host and --port"
    found = holder(port)
    is_eva = _is_eva(host, port)
    if found is not None:
        pid, command = found
        who = f"{'another EVA review server' if is_eva else 'a program'} holds it: process {pid}, {command}"
        stop = f"stop it (kill {pid})"
    else:
        who = "another EVA review server holds it" if is_eva else "another program holds it"
        stop = "stop that one"
    return f"port {port} on {host} is in use; {who}. Use what runs there, or {stop}, or choose another port with --port or SERVER_PORT"


def holder(port: int) -> tuple[int, str] | None:
    """``(process id, command line)`` of who listens on a port here; None where the system does not say."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            held = any(_target(entry) in wanted for entry in list((process / "fd").iterdir()))
            command = (process / "cmdline").read_bytes() if held else b""
        except OSError:
            continue  # it ended, or belongs to somebody else
        if held:
            words = [word for word in command.decode("utf-8", "replace").split("\0") if word]
            return int(process.name), redact(" ".join(_hidden(words)))[:LONGEST_COMMAND] or "its command is not known"
    return None


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # closed meanwhile


def _hidden(words: list[str]) -> list[str]:
    """A command line without the values of secrets."""
    out, hide = [], False
    for word in words:
        flag, equals, _ = word.partition("=")
        secret = flag in ("--token", "--openrouter-key")
        out.append("***" if hide else f"{flag}=***" if secret and equals else word)
        hide = secret and not equals
    return out


def _is_eva(host: str, port: int) -> bool:
    """Whether what answers there says that it is this server."""
    connection = http.client.HTTPConnection("127.0.0.1" if host in ("0.0.0.0", "", "::") else host, port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/health")
        found = json.loads(connection.getresponse().read(10_000))
        return isinstance(found, dict) and found.get("service") == "eva-review"
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
