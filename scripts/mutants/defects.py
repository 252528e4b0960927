# SPDX-License-Identifier: GPL-2.0-only
"""The table of known defects: its rows, and the tests that they name."""

import re

TABLE = 'tools/testing/selftests/cachefiles/defects.rst'


def rows(text):
    """The rows of the list-table, its head among them: [(line number, [cells])]."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith('   * - '):
            found.append((number, [line[7:]]))
        elif found and line.startswith('     - '):
            found[-1][1].append(line[7:])
        elif found and line.startswith('       '):
            found[-1][1][-1] += ' ' + line.strip()
    return found


def entries_of(cells):
    return re.findall(r'D\d\d', cells[0])


def tests_of(cells):
    """{program: [test]} in the order of the row."""
    tests = {}
    for program, test in re.findall(r'``(\w+)(?:\.sh)?::(\w+)``', cells[2]):
        tests.setdefault(program, []).append(test)
    return tests


def tests_of_entries(text):
    """{entry: {program: [test]}}"""
    return {entry: tests_of(cells) for _, cells in rows(text)[1:] if len(cells) == 4
            for entry in entries_of(cells)}


def programs_of(words):
    """The programs that a mutant's line "# tests:" names; what is in parentheses is a remark."""
    return [program.removesuffix('.sh') for program in re.sub(r'\(.*', '', words).split()]
