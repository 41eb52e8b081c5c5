"""The systems under comparison: each can be started below a directory, remounted (a cold client) and stopped.

All of them run inside the namespaces that bench/compare made: what is still running at the end dies with them. Every
system keeps its defaults; what had to be set for three copies on one machine is said where it is set.
"""

import json
import os
import pathlib
import shutil
import subprocess
import time

ADDRESS = "10.77.0.1"  # MooseFS and GlusterFS refuse loopback addresses
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def run(*command, **options):
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout}")
    return result.stdout


def wait_for(what, condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.2)
    raise RuntimeError(f"{what}: not so after {seconds} s")


def processes():
    """(pid, command name, resident KiB) of everything that runs beside this process."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (1, os.getpid()):
            continue
        try:
            status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if "VmRSS" in status:
            found.append((int(entry.name), status["Name"].strip(), int(status["VmRSS"].split()[0])))
    return found


class System:
    name = ""
    settings = ""       # what the report says of how it was run
    client = ()         # names of the client's processes (as in /proc/PID/status, 15 characters)

    def __init__(self, work):
        self.work = work / self.name
        self.mount_point = self.work / "mnt"
        self.mount_point.mkdir(parents=True)
        self.daemons = []

    def start(self):
        """Brings the system up and mounts it."""

    def mount(self):
        """Mounts; the system is up."""

    def unmount(self):
        run("umount", self.mount_point)

    def remount(self):
        """A client with cold caches; the servers' stay warm."""
        self.unmount()
        self.mount()

    def fully_replicated(self):
        """Whether all copies are there; None where the system does not tell."""
        return None

    def stop(self):
        """Leaves nothing running and nothing mounted."""
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def spawn(self, *command, log):
        with open(self.work / log, "ab") as out:
            self.daemons.append(subprocess.Popen([str(part) for part in command], stdout=out, stderr=out,
                                                 stdin=subprocess.DEVNULL, start_new_session=True))

    def resident_mib(self):
        """(client, servers)"""
        client = sum(kib for _, name, kib in processes() if name in self.client)
        everything = sum(kib for _, _, kib in processes())
        return client / 1024, (everything - client) / 1024


class Ext4(System):
    """The local file system below the work directory."""
    name = "local"
    settings = "one copy, no server"

    def remount(self):
        run("sync")
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")

    def unmount(self):
        pass


class Mergerfs(System):
    name = "mergerfs"
    settings = "pass-through to one local directory, defaults"
    client = ("mergerfs",)

    def start(self):
        (self.work / "branch").mkdir()
        self.mount()

    def mount(self):
        run("mergerfs", self.work / "branch", self.mount_point)


class MooseFs(System):
    name = "moosefs"
    settings = "goal 3, trash time 0 (its default keeps deleted data for a day), otherwise defaults"
    client = ("mfsmount",)

    def start(self):
        master = self.work / "master"
        master.mkdir()
        shutil.copy("/var/lib/mfs/metadata.mfs.empty", master / "metadata.mfs")
        (self.work / "exports.cfg").write_text("* / rw,alldirs,admin,maproot=0:0\n")
        (self.work / "master.cfg").write_text(
            f"WORKING_USER = root\nWORKING_GROUP = root\nDATA_PATH = {master}\n"
            f"EXPORTS_FILENAME = {self.work}/exports.cfg\n")
        self.spawn("mfsmaster", "-c", self.work / "master.cfg", "-f", "start", log="master.log")
        time.sleep(2)
        for n in (1, 2, 3):
            data = self.work / f"cs{n}"
            (data / "disk").mkdir(parents=True)
            (data / "meta").mkdir()
            (self.work / f"hdd{n}.cfg").write_text(f"{data}/disk\n")
            (self.work / f"cs{n}.cfg").write_text(
                f"WORKING_USER = root\nWORKING_GROUP = root\nDATA_PATH = {data}/meta\n"
                f"HDD_CONF_FILENAME = {self.work}/hdd{n}.cfg\nMASTER_HOST = {ADDRESS}\n"
                f"CSSERV_LISTEN_PORT = {9520 + n}\n")
            self.spawn("mfschunkserver", "-c", self.work / f"cs{n}.cfg", "-f", "start", log=f"cs{n}.log")
        time.sleep(5)
        self.mount()
        run("mfssetgoal", "-r", "3", self.mount_point)
        run("mfssettrashtime", "-r", "0", self.mount_point)

        def writable():
            probe = self.mount_point / "probe"
            try:
                probe.write_bytes(b"x")
                probe.unlink()
                return True
            except OSError:
                return False
        wait_for("MooseFS takes a write", writable)

    def mount(self):
        run("mfsmount", self.mount_point, "-H", ADDRESS)


class GlusterFs(System):
    name = "glusterfs"
    settings = "replica 3, defaults"
    client = ("glusterfs",)

    def start(self):
        # glusterd knows only its system-wide directories: give it private ones.
        for path in ("/var/lib/glusterd", "/var/log/glusterfs", "/run/gluster"):
            private = self.work / path.strip("/").replace("/", "-")
            private.mkdir()
            pathlib.Path(path).mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", private, path)
        self.spawn("glusterd", "-N", log="glusterd.log")
        wait_for("glusterd answers", lambda: subprocess.run(["gluster", "volume", "list"], capture_output=True).returncode == 0)
        bricks = []
        for n in (1, 2, 3):
            brick = self.work / f"brick{n}"
            brick.mkdir()
            bricks.append(f"{ADDRESS}:{brick}")
        run("gluster", "--mode=script", "volume", "create", "vol", "replica", "3", *bricks, "force")
        run("gluster", "--mode=script", "volume", "start", "vol")

        def online():  # `volume start` may report success before the bricks serve
            lines = run("gluster", "volume", "status", "vol").splitlines()
            return sum(line.rstrip().split()[-2:-1] == ["Y"] for line in lines if "/brick" in line) == 3
        wait_for("three bricks are online", online)
        self.mount()

    def mount(self):
        run("glusterfs", f"--volfile-server={ADDRESS}", "--volfile-id=vol", self.mount_point)
        wait_for("GlusterFS is mounted", lambda: os.path.ismount(self.mount_point))

    def stop(self):
        run("gluster", "--mode=script", "volume", "stop", "vol")
        super().stop()
        for path in ("/run/gluster", "/var/log/glusterfs", "/var/lib/glusterd"):
            run("umount", "-l", path)


class CephFs(System):
    name = "cephfs"
    settings = "size 3, min_size 2, ceph-fuse, BlueStore in files, no authentication, otherwise defaults"
    client = ("ceph-fuse",)

    def start(self):
        fsid = "c0ffee00-0000-4000-8000-000000000001"
        conf = self.work / "ceph.conf"
        conf.write_text(f"""[global]
fsid = {fsid}
mon host = {ADDRESS}
mon initial members = a
public network = 10.77.0.0/24
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 3
osd pool default min size = 2
run dir = {self.work}
log file = {self.work}/$name.log
admin socket = {self.work}/$name.asok
# three OSDs of one machine count as three hosts
osd crush update on start = false
bluestore block size = 21474836480
mon allow pool delete = true
[mon]
mon data = {self.work}/mon
[osd]
osd data = {self.work}/osd$id
[mds]
mds data = {self.work}/mds
[mgr]
mgr data = {self.work}/mgr
""")
        ceph = ("ceph", "-c", conf)
        monmap = self.work / "monmap"
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:{ADDRESS}:3300,v1:{ADDRESS}:6789]", monmap)
        (self.work / "mon").mkdir()
        (self.work / "mds").mkdir()
        (self.work / "mgr").mkdir()
        run("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", monmap)
        self.spawn("ceph-mon", "-c", conf, "-i", "a", "-f", log="mon.out")
        run(*ceph, "-s", timeout=60)
        self.spawn("ceph-mgr", "-c", conf, "-i", "x", "-f", log="mgr.out")
        for n in (0, 1, 2):
            (self.work / f"osd{n}").mkdir()
            uuid = f"c0ffee00-0000-4000-8000-00000000010{n}"
            assert run(*ceph, "osd", "new", uuid).split()[-1] == str(n)
            run("ceph-osd", "-c", conf, "-i", n, "--mkfs", "--osd-uuid", uuid)
            run(*ceph, "osd", "crush", "add-bucket", f"host{n}", "host")
            run(*ceph, "osd", "crush", "move", f"host{n}", "root=default")
            run(*ceph, "osd", "crush", "add", f"osd.{n}", "1.0", f"host=host{n}", "root=default")
            self.spawn("ceph-osd", "-c", conf, "-i", n, "-f", log=f"osd{n}.out")
        wait_for("three OSDs are up", lambda: json.loads(run(*ceph, "osd", "stat", "-f", "json"))["num_up_osds"] == 3)
        run(*ceph, "osd", "pool", "create", "meta", "16")
        run(*ceph, "osd", "pool", "create", "data", "32")
        run(*ceph, "fs", "new", "fs", "meta", "data")
        self.spawn("ceph-mds", "-c", conf, "-i", "a", "-f", log="mds.out")
        wait_for("an MDS is active", lambda: "up:active" in run(*ceph, "mds", "stat"))
        self.mount()

    def mount(self):
        run("ceph-fuse", "-c", self.work / "ceph.conf", "-m", ADDRESS, self.mount_point)
        wait_for("CephFS is mounted", lambda: os.path.ismount(self.mount_point))


class Cairn(System):
    name = "cairn"
    settings = "three replicas, write quorum two, defaults (the binaries and settings that the tests use)"
    client = ("cairn-mount",)

    def __init__(self, work):
        super().__init__(work)
        self.binary = REPOSITORY / "build/release/bin/cairn"
        self.directory = self.work / "cluster"

    def start(self):
        run(self.binary, "up", "--dir", self.directory, "--mount", self.mount_point)

    def mount(self):
        run(self.binary, "up", "--dir", self.directory)

    def unmount(self):
        run(self.binary, "down", "--dir", self.directory, "--only", "mount")

    def fully_replicated(self):
        """No chunk is below its policy: every copy carries the stamp."""
        status = json.loads(run(self.binary, "status", "--dir", self.directory, "--json"))
        return status["health"] == "healthy" and int(status["chunks_below_policy"]) == 0

    def stop(self):
        run(self.binary, "down", "--dir", self.directory)


ALL = {kind.name: kind for kind in (Ext4, Mergerfs, MooseFs, GlusterFs, CephFs, Cairn)}
