"""The inside of bench/compare, which made the namespaces and calls this."""

import argparse
import datetime
import os
import pathlib
import platform
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import report
import systems
import workloads


def main():
    parser = argparse.ArgumentParser(prog="bench/compare", description="Compares Cairn with other file systems, side by side in one run.")
    parser.add_argument("--systems", default=",".join(systems.ALL), help="which ones (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the systems take turns in each (default: 3)")
    parser.add_argument("--mib", type=int, default=1024, help="MiB of the streams (default: 1024)")
    parser.add_argument("--files", type=int, default=6000, help="files of the tree (default: 6000)")
    parser.add_argument("--out", default=str(systems.REPOSITORY / "docs" / "benchmarks"), help="where the tables go (default: docs/benchmarks)")
    parser.add_argument("--work", help="where the systems keep their data (default: a new directory in /var/tmp, removed at the end)")
    arguments = parser.parse_args()
    wanted = arguments.systems.split(",")
    unknown = [name for name in wanted if name not in systems.ALL]
    if unknown:
        parser.error(f"unknown system {unknown[0]}; there are {', '.join(systems.ALL)}")
    if arguments.rounds < 1 or arguments.mib < 4 or arguments.files < 100:
        parser.error("at least 1 round, 4 MiB and 100 files")

    systems.run("ip", "link", "set", "lo", "up")
    systems.run("ip", "address", "add", f"{systems.ADDRESS}/24", "dev", "lo")
    if arguments.work:
        pathlib.Path(arguments.work).mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="cairn-compare-", dir=arguments.work or "/var/tmp"))
    rows, failed = [], {}
    try:
        inputs = workloads.Inputs(work, arguments.files)
        for round_number in range(1, arguments.rounds + 1):
            for name in wanted:
                if name in failed:
                    continue
                print(f"round {round_number}: {name}", flush=True)
                place = work / f"round{round_number}"
                system = systems.ALL[name](place)
                before = len(rows)
                try:
                    system.start()
                    recorder = workloads.Recorder(system, rows)
                    workloads.calls(system, recorder, arguments.mib, arguments.files, place / "rows.json")
                    workloads.programs(system, recorder, inputs)
                    system.unmount()
                except (RuntimeError, OSError, systems.subprocess.SubprocessError) as error:
                    del rows[before:]
                    failed[name] = str(error)
                    print(f"    {name} failed: {error}", file=sys.stderr, flush=True)
                finally:
                    stop(system)
                shutil.rmtree(place, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)

    facts = [f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, everything on one machine; {arguments.rounds} rounds, streams of {arguments.mib} MiB, {arguments.files} files"]
    facts += [f"{name}: {systems.ALL[name].settings}" for name in wanted if name not in failed]
    facts += [f"{name}: not measured, it failed: {why.splitlines()[0]}" for name, why in failed.items()]
    report.write(pathlib.Path(arguments.out), rows, wanted, facts)
    print(report.markdown(rows, wanted, facts))
    return 1 if failed else 0


def stop(system):
    try:
        system.stop()
    except (RuntimeError, OSError) as error:
        print(f"    {system.name} did not stop by itself: {error}", file=sys.stderr, flush=True)
    for pid, _, _ in systems.processes():  # all that is left in this process namespace is the system's
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    if os.path.ismount(system.mount_point):
        systems.run("umount", "-l", system.mount_point)


if __name__ == "__main__":
    sys.exit(main())
