#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""matrix.py RESULTS OUT: what came of the kselftests on several kernels.

RESULTS is written by check.sh, one line for each kernel and program, fields separated by
tabs: KERNEL PROGRAM PASSED FAILED SKIPPED SECONDS REASON... . Prints a table and writes the
same to OUT.tap and OUT.json. Status 1 if a test has failed, or was skipped and did not say
why, or if there are no results.
"""
import json
import pathlib
import sys


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
        return bool(self.skipped) and not all(map(str.strip, self.reasons or [""]))

    @property
    def good(self):
        return not self.failed and not self.unexplained

    def text(self, number_of):
        notes = ",".join(str(number_of(reason)) for reason in self.reasons if reason.strip())
        skipped = f"{self.skipped} skipped [{notes or 'no reason'}]" if self.skipped else ""
        parts = [f"{self.passed}" if self.passed or not self.skipped else "",
                 f"{self.failed} FAILED" if self.failed else "", skipped]
        return ", ".join(filter(None, parts))


def read(path):
    kernels = {}
    for line in pathlib.Path(path).read_text().splitlines():
        kernel, program, passed, failed, skipped, seconds, *reasons = line.split("\t")
        cell = kernels.setdefault(kernel, {}).setdefault(program, Cell())
        cell.add(int(passed), int(failed), int(skipped), int(seconds), reasons)
    return kernels


def table(kernels, programs):
    reasons = []

    def number_of(reason):
        if reason not in reasons:
            reasons.append(reason)
        return reasons.index(reason) + 1

    rows = [["", *kernels]]
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
            if cell.unexplained:
                lines.append("# skipped, and no reason given:")
            elif cell.skipped:
                lines += [f"# {cell.skipped} skipped: {reason}" for reason in cell.reasons]
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
    kernels = read(sys.argv[1])
    out = sys.argv[2]
    if not kernels:
        sys.exit("matrix.py: there are no results")
    programs = sorted({program for cells in kernels.values() for program in cells})
    print(table(kernels, programs))
    pathlib.Path(out + ".tap").write_text(tap(kernels))
    pathlib.Path(out + ".json").write_text(json.dumps(
        {kernel: {program: vars(cell) | {"ok": cell.good} for program, cell in cells.items()}
         for kernel, cells in kernels.items()}, indent=1) + "\n")
    print(f"matrix.py: written to {out}.tap and {out}.json", file=sys.stderr)
    sys.exit(not all(cell.good for cells in kernels.values() for cell in cells.values()))


if __name__ == "__main__":
    main()
