"""Who works on a state that lies on a network volume, where a lock of one machine may not be seen by another.

The owner file ``journal/locks/ROLE.owner`` is made by exclusive creation and names host, process and a heartbeat.
A holder on another host is never dispossessed by age: a machine that is cut off, suspended or slow looks just like a
dead one. Only ``--takeover`` does it; the holder, should it live after all, notices at its next heartbeat, or before its
next record, and records nothing more. A holder on this host whose process is certainly gone is replaced without asking.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eva_env_base import StateError, StateLocked

log = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 5.0  # a dispossessed holder notices after at most this
_UNFINISHED_SECONDS = 2.0  # a file without content this long after it was found is not just being written
# The inode of a Linux machine's first process namespace: PROC_PID_INIT_INO in include/linux/proc_ns.h.
_FIRST_NAMESPACE = "pid:[4026531836]"


@dataclass(frozen=True)
class Host:
    """Where a process runs. ``boot``, ``pids`` (process namespace), ``machine`` and ``pod`` are "" where there is no such thing."""

    name: str
    boot: str = ""
    pids: str = ""
    machine: str = ""
    pod: str = ""


def this_host(environ: Mapping[str, str] | None = None) -> Host:
    env = os.environ if environ is None else environ
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path but a name
    except (OSError, AttributeError):
        namespace = ""
    boot, machine = _line("/proc/sys/kernel/random/boot_id"), _line("/etc/machine-id")
    return Host(socket.gethostname(), boot, namespace, machine, env.get("RUNPOD_POD_ID", ""))


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def started_at(pid: int) -> str:
    """When a process started, in the kernel's ticks since boot (tells a reused number apart); "" where that is not told."""
    # The second field is the program's name in brackets and may hold anything; the 22nd field of the line is wanted.
    fields = _line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def is_running(pid: int, started: str) -> bool:
    """Whether process ``pid`` of this process namespace runs and is the one that started then."""
    if os.name == "nt":
        return False  # the caller holds the role's lock, which on one machine the living holder would have held
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as somebody else
    except (OverflowError, ValueError):
        return False
    now = started_at(pid)
    return not (started and now) or started == now


def why_gone(owner: Mapping[str, Any], here: Host) -> str | None:
    """Why the holder certainly no longer runs; None when it may."""
    if here.pod and owner.get("pod") == here.pod:
        # A pod runs one container at a time, so what ran in an earlier one is over.
        if (owner.get("boot"), owner.get("pids")) != (here.boot, here.pids):
            return "it ran in this pod before its last restart"
    elif owner.get("host") != here.name or bool(owner.get("pod")) != bool(here.pod) or owner.get("pod", "") != here.pod:
        return None
    pid = owner.get("pid")
    if owner.get("boot") == here.boot and owner.get("pids") == here.pids:
        if isinstance(pid, int) and pid > 0 and not is_running(pid, str(owner.get("started") or "")):
            return f"process {pid} of this machine has ended"
        return None
    # Containers may share a name and an image: only of whole machines does a new boot say that the old one is over.
    whole = here.pids == owner.get("pids") == _FIRST_NAMESPACE
    if whole and here.machine and owner.get("machine") == here.machine and here.boot and owner.get("boot"):
        return "this machine was started anew since"
    return None


class OwnerFile:
    """Claimed by :meth:`claim`, kept alive by a thread from :meth:`start` on, given back by :meth:`release`."""

    def __init__(
        self,
        path: Path,
        role: str,
        *,
        clock: Callable[[], float] = time.time,
        host: Host | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
    ):
        self.path = path
        self.role = role
        self._clock = clock
        self._host = host or this_host()
        self._heartbeat = heartbeat
        self._token = ""
        self._since = 0.0
        self._seen = 0.0  # monotonic time the file was last seen to be ours
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ taking it
    def claim(self, *, takeover: bool = False) -> bool:
        """Makes this process the owner. True when it took that from a holder that may still live (see :meth:`settle`).

        Raises StateLocked naming the holder, OSError when the folder cannot be written.
        """
        self._token, self._since = os.urandom(8).hex(), self._clock()
        taken = False
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            holder = self._read_settled()
            reason = None if holder is None else why_gone(holder, self._host)
            if reason is not None:
                log.info("%s: taken over from %s: %s", self.path, self._named(holder), reason)
            elif takeover:
                log.warning("%s: taken over by --takeover from %s", self.path, self._named(holder))
                taken = True
            else:
                raise StateLocked(self._refusal(holder)) from None
            self._write()
        else:
            with os.fdopen(fd, "wb") as file:
                file.write(self._content())
                file.flush()
                os.fsync(file.fileno())
            self._seen = time.monotonic()
        return taken

    def start(self) -> None:
        """Starts the heartbeat."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name=f"eva-state-owner-{self.role}", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Waits until a holder that lives after all must have noticed. Raises StateLocked when another takes it meanwhile."""
        wait = 2 * self._heartbeat
        log.warning("%s: waiting %.0f s so that the former holder, if it still runs, notices and stops", self.path, wait)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            time.sleep(min(0.2, self._heartbeat / 5))
            found = self._read()
            if found is not None and found.get("token") == self._token:
                continue
            # The former holder's last heartbeat landed on ours (it had looked before we wrote): it will look again.
            if found is None or found.get("since", 0.0) < self._since:
                self._write()
                continue
            raise StateLocked(self._refusal(found))

    # ------------------------------------------------------------ keeping it
    @property
    def lost(self) -> bool:
        """Another process took the role over."""
        return self._token == ""

    def check(self) -> None:
        """Raises StateLocked when the role was taken over, StateError when that cannot be told now.

        Costs a clock reading; the file is read only when the heartbeat is overdue (the process had been stopped).
        """
        if not self.lost and time.monotonic() - self._seen > self._heartbeat:
            try:
                self._look()
            except OSError as error:
                raise StateError(f"{self.path}: cannot be read ({error.strerror or error}); nothing was recorded") from error
        if self.lost:
            raise StateLocked(f"another {self.role} has taken this state over ({self._named(self._read())}); this one records nothing more")

    def _look(self) -> None:
        with self._lock:
            if not self._token:
                return
            found = self._read()
            if found is not None and found.get("token") == self._token:
                self._seen = time.monotonic()
                return
            if found is None and not self.path.exists():
                raise FileNotFoundError(f"{self.path} was removed")
            self._token = ""
        log.error("%s: taken over by %s; this process records nothing more", self.path, self._named(found))

    def _beat(self) -> None:
        failing = ""
        while not self._stop.wait(self._heartbeat / 2):
            try:
                try:
                    self._look()
                except FileNotFoundError:
                    log.warning("%s was removed while this process runs; written again", self.path)
                if self.lost:
                    return
                self._write()
                failing = ""
            except OSError as error:
                if str(error) != failing:
                    log.error("%s: the heartbeat cannot be written: %s", self.path, error)
                failing = str(error)

    def release(self) -> None:
        """Removes the file if it is ours."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        try:
            self._look()
            if not self.lost:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be removed: %s", self.path, error)
        self._token = ""

    # ------------------------------------------------------------ the file
    def _content(self) -> bytes:
        host = self._host
        return json.dumps(
            {
                **{"role": self.role, "host": host.name, "pid": os.getpid(), "started": started_at(os.getpid()), "boot": host.boot},
                **{"pids": host.pids, "machine": host.machine, "pod": host.pod, "token": self._token},
                **{"since": self._since, "heartbeat": self._clock()},
            }
        ).encode()

    def _write(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(self._content())
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                if self._token:  # not lost meanwhile
                    os.replace(temporary, self.path)  # noqa: PTH105
                    self._seen = time.monotonic()
        finally:
            temporary.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _read_settled(self) -> dict[str, Any] | None:
        """The owner; waits a moment for one that is just writing its file."""
        deadline = time.monotonic() + min(_UNFINISHED_SECONDS, self._heartbeat)
        while (found := self._read()) is None and self.path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _named(self, owner: Mapping[str, Any] | None) -> str:
        if owner is None:
            return "holder unknown"
        beat = owner.get("heartbeat")
        age = f", last sign of life {max(0.0, self._clock() - beat):.0f} s ago" if isinstance(beat, (int, float)) else ""
        return f"process {owner.get('pid')} on {owner.get('host')}{age}"

    def _refusal(self, owner: Mapping[str, Any] | None) -> str:
        how = "run `python -m eva_state rebuild --takeover`" if self.role == "tool" else "start this one with --takeover"
        return (
            f"another {self.role} already works on {self.path.parent.parent.parent}: {self._named(owner)}. The folder lies on a network "
            f"volume, where it cannot be told from here whether that process still runs. Stop it there; if you know that it is gone, {how}."
        )
