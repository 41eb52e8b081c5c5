"""Medians and spread of all rounds as Markdown, JSON and an SVG chart."""

import json
import statistics

LESS_IS_BETTER = ("s", "MiB")


def collect(rows):
    """{workload: (unit, {system: [values]})} in the order of the first appearance."""
    table = {}
    for row in rows:
        unit, systems = table.setdefault(row["workload"], (row["unit"], {}))
        systems.setdefault(row["system"], []).append(row)
    return table


def cell(entries):
    values = [entry["value"] for entry in entries]
    middle = statistics.median(values)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    text = f"{middle:,.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
    tails = [entry["p99_ms"] for entry in entries if "p99_ms" in entry]
    if tails:
        text += f", p99 {statistics.median(tails):.2f} ms"
    return text


def cpu_cell(entries):
    values = [entry["cpu_s"] for entry in entries if "cpu_s" in entry]
    return f"{statistics.median(values):.2f}" if values else "–"


def markdown(rows, systems, facts):
    names = [system for system in systems if any(row["system"] == system for row in rows)]
    table = collect(rows)
    lines = ["# Cairn beside other file systems", "", "Made by `bench/compare`; medians, in brackets the least and the greatest of the rounds. "
             "MB = 10⁶ bytes. Cold: a new client mount, the servers' caches warm.", ""]
    lines += [f"- {fact}" for fact in facts] + [""]

    def block(title, make):
        lines.extend([f"## {title}", "", "| workload | unit | " + " | ".join(names) + " |", "| --- | --- |" + " --- |" * len(names)])
        for workload, (unit, by_system) in table.items():
            lines.append(f"| {workload} | {unit} | " + " | ".join(make(by_system[name]) if name in by_system else "–" for name in names) + " |")
        lines.append("")
    block("Results", cell)
    block("CPU seconds of all processes, client and servers", cpu_cell)
    return "\n".join(lines)


def chart(rows, systems):
    """One group of bars a workload, each relative to the best of its row."""
    colours = {"local": "#9aa5b1", "mergerfs": "#c3cad2", "moosefs": "#d9a441", "glusterfs": "#7a9e5f", "cephfs": "#b5654a", "cairn": "#2b6cb0"}
    table = {workload: content for workload, content in collect(rows).items()
             if not workload.startswith(("fully replicated", "resident"))}
    names = [system for system in systems if any(row["system"] == system for row in rows)]
    bar, gap, left, width = 9, 12, 260, 420
    height = 50 + len(table) * (len(names) * bar + gap)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 110}" height="{height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>']
    for n, name in enumerate(names):
        out.append(f'<rect x="{20 + n * 110}" y="12" width="10" height="10" fill="{colours[name]}"/><text x="{35 + n * 110}" y="21">{name}</text>')
    y = 40
    for workload, (unit, by_system) in table.items():
        medians = {name: statistics.median(entry["value"] for entry in by_system[name]) for name in names if name in by_system}
        good = {name: (1 / max(value, 1e-9) if unit in LESS_IS_BETTER else value) for name, value in medians.items()}
        best = max(good.values())
        out.append(f'<text x="{left - 8}" y="{y + len(names) * bar / 2 + 3}" text-anchor="end">{workload}</text>')
        for name in names:
            if name in good:
                out.append(f'<rect x="{left}" y="{y}" width="{max(1, width * good[name] / best):.1f}" height="{bar - 1}" fill="{colours[name]}"/>'
                           f'<text x="{left + width * good[name] / best + 4:.1f}" y="{y + bar - 1}" font-size="8">{medians[name]:,.4g} {unit}</text>')
            y += bar
        y += gap
    return "\n".join(out + ["</svg>", ""])


def write(directory, rows, systems, facts):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "compare.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    (directory / "compare.md").write_text(markdown(rows, systems, facts))
    (directory / "compare.svg").write_text(chart(rows, systems))
