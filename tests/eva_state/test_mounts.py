from __future__ import annotations

import sys

import pytest

from eva_state import mounts
from eva_state.mounts import LOCAL, NETWORK, OVERLAY, TMPFS, UNKNOWN, find_mount, kind_of, mount_in

INFO = """\
22 1 0:45 / / rw,relatime - overlay overlay rw,lowerdir=/l
23 22 0:5 / /dev/shm rw - tmpfs shm rw
30 22 8:1 / /data rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw
31 30 0:50 / /data/net rw - nfs4 server:/export rw,vers=4.2
32 22 0:51 / /my\\040volume rw - fuse.mfs mfs#master:9421 rw
33 22 0:52 / /workspace rw - fuse.mfs mfs#a rw
34 33 0:53 / /workspace rw - ext4 /dev/nvme0n1 rw
this is no line of the format
"""


@pytest.mark.parametrize(
    ("path", "kind", "point"),
    [
        ("/", OVERLAY, "/"),
        ("/home/me", OVERLAY, "/"),
        ("/dev/shm/state", TMPFS, "/dev/shm"),
        ("/data", LOCAL, "/data"),
        ("/data/state", LOCAL, "/data"),
        ("/database", OVERLAY, "/"),  # not below /data
        ("/data/net/state", NETWORK, "/data/net"),
        ("/my volume/state", NETWORK, "/my volume"),
        ("/workspace/wan22_system", LOCAL, "/workspace"),  # the later mount hides the earlier one
    ],
)
def test_the_mount_a_path_lies_on(path, kind, point):
    found = mount_in(INFO, path)
    assert found is not None and (found.kind, found.point) == (kind, point)
    assert found.locks_trusted == (kind != NETWORK)


@pytest.mark.parametrize(
    ("fstype", "kind"),
    [
        *((name, LOCAL) for name in ("ext4", "xfs", "btrfs", "zfs", "apfs", "fuseblk", "fuse.ntfs-3g")),
        *(
            (name, NETWORK)
            for name in ("nfs", "nfs4", "cifs", "9p", "virtiofs", "ceph", "fuse.mfs", "fuse.sshfs", "fuse.juicefs", "fuse", "mfs")
        ),
        *((name, OVERLAY) for name in ("overlay", "aufs", "fuse.fuse-overlayfs")),
        *((name, TMPFS) for name in ("tmpfs", "ramfs")),
    ],
)
def test_the_kind_of_a_file_system(fstype, kind):
    assert kind_of(fstype) == kind


@pytest.mark.parametrize(
    ("path", "unc"),
    [
        ("\\\\server\\share\\state", True),
        ("\\\\?\\UNC\\server\\share\\x", True),
        ("C:\\state", False),
        ("\\\\?\\C:\\x", False),
        ("/a", False),
    ],
)
def test_windows_shares(path, unc):
    assert mounts.is_unc(path) == unc


def test_what_cannot_be_found_out_is_unknown_and_trusted(tmp_path):
    found = find_mount(tmp_path, tmp_path / "no mountinfo")
    assert found.kind == UNKNOWN and found.locks_trusted and "unknown" in str(found)
    assert mount_in("", "/x") is None


def test_a_folder_that_does_not_exist_yet_and_a_link(tmp_path):
    info = tmp_path / "mountinfo"
    info.write_text(f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {tmp_path / 'net'} rw - nfs server:/x rw\n")
    (tmp_path / "net").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "net")
    assert find_mount(tmp_path / "link" / "state" / "journal", info).kind == NETWORK
    assert find_mount(tmp_path / "elsewhere", info).kind == LOCAL


@pytest.mark.skipif(sys.platform != "linux", reason="mountinfo is Linux's")
def test_the_real_thing():
    assert find_mount("/proc").fstype == "proc" and find_mount("/").point == "/"
