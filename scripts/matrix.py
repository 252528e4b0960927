#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""matrix.py RESULTS OUT: what came of the kselftests on several kernels.

RESULTS is written by check.sh, one line for each kernel and program, fields separated by
tabs: KERNEL PROGRAM PASSED FAILED SKIPPED SECONDS REASON... . A line "#", KERNEL, TITLE says
what people call a kernel and that it was to run. Prints a table and writes the same to
OUT.tap and OUT.json. Status 1 if a test has failed, or was skipped and did not say why, or
if a kernel has no results.
"""
import json
import pathlib
import sys


def explains(reason):
    """The harness writes "unknown" for a test that has left without a word."""
    return reason.strip().lower() not in ("", "unknown")


class Cell:
    """What one program did on one kernel; more lines about it add up."""

    def __init__(self):
        self.passed = self.failed = self.skipped = self.seconds = 0
        self.reasons = []

    def add(self, passed, failed, skipped, seconds, reasons):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        self.seconds += seconds
        self.reasons += [reason for reason in reasons if reason not in self.reasons]

    @property
    def unexplained(self):
        return bool(self.skipped) and not all(map(explains, self.reasons or [""]))

    @property
    def good(self):
        return not self.failed and not self.unexplained

    def text(self, number_of):
        notes = [str(number_of(reason)) for reason in self.reasons if explains(reason)]
        if self.unexplained:
            notes.append("NO REASON")
        skipped = f"{self.skipped} skipped [{','.join(notes)}]" if self.skipped else ""
        parts = [f"{self.passed}" if self.passed or not self.skipped else "",
                 f"{self.failed} FAILED" if self.failed else "", skipped]
        return ", ".join(filter(None, parts))


def read(path):
    kernels = {}
    titles = {}
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith("#\t"):
            _, kernel, title = line.split("\t")
            kernels.setdefault(kernel, {})
            titles[kernel] = title
            continue
        kernel, program, passed, failed, skipped, seconds, *reasons = line.split("\t")
        cell = kernels.setdefault(kernel, {}).setdefault(program, Cell())
        cell.add(int(passed), int(failed), int(skipped), int(seconds), reasons)
    for kernel, cells in kernels.items():
        titles.setdefault(kernel, kernel)
        if not cells:
            cells["(nothing has run)"] = Cell()
            cells["(nothing has run)"].failed = 1
    return kernels, titles


def table(kernels, titles, programs):
    reasons = []

    def number_of(reason):
        if reason not in reasons:
            reasons.append(reason)
        return reasons.index(reason) + 1

    rows = [["", *(titles[kernel] for kernel in kernels)], ["", *kernels]]
    for program in programs:
        cells = [cells.get(program) for cells in kernels.values()]
        rows.append([program, *(cell.text(number_of) if cell else "-" for cell in cells)])
    cells = [list(cells.values()) for cells in kernels.values()]
    rows.append(["all", *(f"{sum(c.passed for c in all_)} passed, "
                          f"{sum(c.failed for c in all_)} failed, "
                          f"{sum(c.skipped for c in all_)} skipped" for all_ in cells)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [f"[{number}] {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join(lines)


def tap(kernels):
    lines = []
    for kernel, cells in kernels.items():
        for program, cell in cells.items():
            if cell.skipped:
                lines.append(f"# {cell.passed} passed, {cell.failed} failed, {cell.skipped} skipped: " +
                             ("NO REASON" if cell.unexplained else "; ".join(cell.reasons)))
            elif cell.failed:
                lines.append(f"# {cell.passed} passed, {cell.failed} failed")
            skip = cell.good and cell.skipped and not cell.passed
            lines.append(f"{'ok' if cell.good else 'not ok'} NUMBER - {kernel} {program}" +
                         (f" # SKIP {cell.reasons[0]}" if skip else ""))
    results = [index for index, line in enumerate(lines) if not line.startswith("#")]
    for number, index in enumerate(results, 1):
        lines[index] = lines[index].replace("NUMBER", str(number), 1)
    return "\n".join(["TAP version 13", f"1..{len(results)}", *lines]) + "\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    kernels, titles = read(sys.argv[1])
    out = sys.argv[2]
    if not kernels:
        sys.exit("matrix.py: there are no results")
    programs = sorted({program for cells in kernels.values() for program in cells})
    print(table(kernels, titles, programs))
    pathlib.Path(out + ".tap").write_text(tap(kernels))
    pathlib.Path(out + ".json").write_text(json.dumps(
        {kernel: {"title": titles[kernel], "programs": {
            program: vars(cell) | {"ok": cell.good} for program, cell in cells.items()}}
         for kernel, cells in kernels.items()}, indent=1) + "\n")
    print(f"matrix.py: written to {out}.tap and {out}.json", file=sys.stderr)
    sys.exit(not all(cell.good for cells in kernels.values() for cell in cells.values()))


if __name__ == "__main__":
    main()
