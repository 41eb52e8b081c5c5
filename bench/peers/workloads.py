"""What is measured on each system: the file system calls of mount_bench, and a few real programs."""

import json
import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import tarfile
import time

from systems import REPOSITORY, processes

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds():
    """User and system time of everything in the namespace, this process and its ended children included."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for pid, _, _ in processes():
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def make_tree(directory, files, megabytes):
    """A source tree's shape: files of 1 to ~40 KiB in directories of about 30; the same bytes in every run."""
    source = random.Random(20)
    mean = megabytes * 1_000_000 / files
    words = [bytes(source.choice(b"abcdefghijklmnopqrstuvwxyz_(){};") for _ in range(source.randint(2, 9))) for _ in range(4000)]
    for n in range(files):
        folder = directory / f"d{n // 300}" / f"e{n // 30 % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        size = max(100, int(source.expovariate(1 / mean)))
        text = b" ".join(source.choices(words, k=size // 6 + 1))[:size]
        (folder / f"file{n}.txt").write_bytes(text)


class Inputs:
    """What every system gets: made once, on the local file system."""

    def __init__(self, work, files):
        self.tree = work / "input" / "tree"
        self.tree.mkdir(parents=True)
        make_tree(self.tree, files, 65 * files / 6000)
        self.tar = work / "input" / "tree.tar"
        with tarfile.open(self.tar, "w") as archive:
            archive.add(self.tree, "tree")
        self.repository = work / "input" / "repository"
        shutil.copytree(self.tree, self.repository)
        git = ["git", "-C", str(self.repository), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "the tree"]):
            subprocess.run(git + command, check=True)


class Recorder:
    def __init__(self, system, rows):
        self.system, self.rows = system, rows

    def add(self, workload, unit, value, **more):
        self.rows.append({"system": self.system.name, "workload": workload, "unit": unit, "value": value, **more})
        print(f"    {self.system.name:10} {workload:36} {value:12.2f} {unit}", flush=True)

    def timed(self, workload, unit, work, count=None):
        """Seconds of `work`, or `count` per second."""
        cpu, start = cpu_seconds(), time.monotonic()
        work()
        took = time.monotonic() - start
        used = cpu_seconds() - cpu
        # A client mount that ended within the work took its own seconds along: then there is no figure.
        self.add(workload, unit, took if count is None else count / took, **({"cpu_s": used} if used >= 0 else {}))


def settle(system, recorder, after):
    """How long until all copies are there, for systems that tell."""
    start = time.monotonic()
    state = system.fully_replicated()
    if state is None:
        return
    while not state:
        if time.monotonic() - start > 120:
            raise RuntimeError(f"{system.name}: not fully replicated 120 s after: {after}")
        time.sleep(0.1)
        state = system.fully_replicated()
    recorder.add(f"fully replicated after: {after}", "s", time.monotonic() - start)


def calls(system, recorder, mib, files, report):
    """The rows of mount_bench, by group."""
    for group in ("stream", "random", "append", "small"):
        remount = report.parent / "remount"
        command = [REPOSITORY / "build/release/bin/mount_bench", "--dir", f"{system.name}={system.mount_point}",
                   "--only", group, "--mib", mib, "--files", files, "--rounds", 1, "--json", report, "--cpu-of-all",
                   "--drop-cache", f"{system.name}=touch '{remount}' && while [ -e '{remount}' ]; do sleep 0.02; done"]
        bench = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        while bench.poll() is None:  # the cold rows ask for a new client through a file
            if remount.exists():
                system.remount()
                remount.unlink()
            time.sleep(0.02)
        if bench.returncode != 0:
            raise RuntimeError(f"mount_bench on {system.name}: exit {bench.returncode}")
        for row in json.loads(report.read_text()):
            more = {"p99_ms": row["p99_ms"]} if "p99_ms" in row else {}
            recorder.add(row["workload"], row["unit"], row["median"], cpu_s=row["cpu_s"], **more)
        settle(system, recorder, group)


def sqlite_inserts(path, count):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("create table t (id integer primary key, text text)")
    for n in range(count):
        database.execute("insert into t (text) values (?)", (f"row {n}",))
    database.close()


def programs(system, recorder, inputs):
    """Programs that people run, on the tree of small files."""
    root = system.mount_point / "programs"
    root.mkdir()

    def sh(*command):
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    recorder.timed("untar", "s", lambda: sh("tar", "-xf", inputs.tar, "-C", root))
    settle(system, recorder, "untar")
    recorder.timed("cp -r", "s", lambda: sh("cp", "-r", root / "tree", root / "copy"))
    system.remount()
    # The pattern is nowhere: grep reads everything and exits with 1.
    recorder.timed("grep -r, cold", "s", lambda: subprocess.run(["grep", "-rq", "no such words", str(root / "tree")], check=False))
    client, servers = system.resident_mib()
    recorder.add("resident after the tree, client", "MiB", client)
    recorder.add("resident after the tree, servers", "MiB", servers)
    recorder.timed("rm -rf", "s", lambda: sh("rm", "-rf", root / "copy"))
    recorder.timed("git clone", "s", lambda: sh("git", "clone", "-q", "--no-hardlinks", inputs.repository, root / "clone"))
    recorder.timed("git status", "s", lambda: sh("git", "-C", root / "clone", "status"))
    recorder.timed("sqlite, one insert a transaction", "per s", lambda: sqlite_inserts(root / "db", 200), count=200)
    shutil.rmtree(root)
