"""What kind of file system a folder lies on, and so what its locks and its memory are worth.

Linux: ``/proc/self/mountinfo`` (format: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html). Windows: a
network share resolves to a UNC path. Elsewhere the kind is ``unknown``, and locks are trusted as on a local disk.
"""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

LOCAL, TMPFS, OVERLAY, NETWORK, UNKNOWN = "local", "tmpfs", "overlay", "network", "unknown"
MOUNTINFO = Path("/proc/self/mountinfo")
# Shared with other machines, or with the host of this virtual machine: their locks may not reach everybody who writes.
_NETWORK = frozenset(
    {
        *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "davfs", "afs", "coda", "ncpfs", "ceph", "glusterfs", "lustre"),
        *("gpfs", "beegfs", "pvfs2", "orangefs", "ocfs2", "gfs2", "mfs", "moosefs", "fuse"),
        *("9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs"),  # a folder of the host in a virtual machine
    }
)
# FUSE file systems that are local; any other `fuse.X` is taken for a network volume (sshfs, mfs, juicefs, s3fs, gcsfuse, ...).
_LOCAL_FUSE = frozenset({"fuse.ntfs-3g", "fuse.ntfs", "fuse.exfat", "fuse.bindfs", "fuse.mergerfs", "fuse.ext4", "fuse.lxcfs"})
_OVERLAY = frozenset({"overlay", "overlayfs", "aufs", "fuse.fuse-overlayfs"})
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")

_MEANING = {
    LOCAL: "local disk",
    TMPFS: "in memory: everything here is gone when the machine is switched off",
    OVERLAY: "the container's own layer: everything here is gone when the container is removed; a volume keeps it",
    NETWORK: "shared volume: locks are not trusted across machines, an owner file says who works here",
    UNKNOWN: "kind unknown, taken for a local disk",
}


class Mount(NamedTuple):
    """``point`` is where it is mounted, ``fstype`` and ``source`` as the kernel names them; ``kind`` one of the above."""

    kind: str
    point: str = ""
    fstype: str = ""
    source: str = ""

    @property
    def locks_trusted(self) -> bool:
        return self.kind != NETWORK

    def __str__(self) -> str:
        where = f"{self.fstype} ({self.source}) at {self.point}: " if self.fstype else ""
        return f"{where}{_MEANING[self.kind]}"


def kind_of(fstype: str) -> str:
    """The kind of a file system type as Linux names it."""
    fstype = fstype.lower()
    if fstype in _OVERLAY:
        return OVERLAY
    if fstype in _MEMORY:
        return TMPFS
    if fstype in _LOCAL_FUSE:
        return LOCAL
    return NETWORK if fstype in _NETWORK or fstype.startswith("fuse.") else LOCAL


def mount_in(text: str, path: str) -> Mount | None:
    """The mount that ``path`` (absolute, without links) lies on, from the text of a mountinfo file."""
    best: Mount | None = None
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5 or len(rest) < 2:
            continue  # not a line of this format
        point = _plain(fields[4])
        inside = point == "/" or path == point or path.startswith(point + "/")
        # Of two mounts on one point the later one is what is seen.
        if inside and (best is None or len(point) >= len(best.point)):
            best = Mount(kind_of(rest[0]), point, rest[0], _plain(rest[1]))
    return best


def find_mount(folder: Path | str, mountinfo: Path = MOUNTINFO) -> Mount:
    """What ``folder`` (which need not exist yet) lies on. Never fails: what cannot be found out is ``unknown``."""
    try:
        resolved = Path(folder).resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
        return Mount(UNKNOWN)
    if is_unc(str(resolved)):
        return Mount(NETWORK, str(resolved.anchor), "share", resolved.drive)
    try:
        text = mountinfo.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return Mount(UNKNOWN)
    return mount_in(text, str(resolved)) or Mount(UNKNOWN)


def is_unc(path: str) -> bool:
    """``\\\\server\\share\\...`` (but not the ``\\\\?\\C:\\`` form of a local path)."""
    drive = PureWindowsPath(path).drive
    return drive.startswith("\\\\") and not drive.startswith(("\\\\?\\", "\\\\.\\")) or drive.upper().startswith("\\\\?\\UNC\\")


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
