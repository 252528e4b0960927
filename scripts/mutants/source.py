# SPDX-License-Identifier: GPL-2.0-only
"""Just enough of C to change a statement or an operator of kernel code in place."""

import re

# What is no code keeps its length, so that positions stay those of the file.
NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|'
                     r'^#(?:\\\n|[^\n])*', re.S | re.M)
NAME = re.compile(r'(\w+)\s*\(')


def mask(text):
    """The text with comments, strings and directives replaced by blanks."""
    return NO_CODE.sub(lambda m: re.sub(r'[^\n]', ' ', m.group()), text)


class Statement:
    """A statement that ends with a semicolon: [start, end) in the file."""

    def __init__(self, start, end, code):
        self.start = start
        self.end = end
        self.code = re.sub(r'\s+', ' ', code)


class Function:
    """A function: its name, the span of its body, and its statements."""

    def __init__(self, name, start, end, masked):
        self.name = name
        self.start = start
        self.end = end
        self.body = masked[start:end]
        self.statements = list(self._split(masked))

    def _split(self, masked):
        pos = self.start + 1
        begins = True
        first = None
        while pos < self.end:
            eol = masked.index('\n', pos) + 1
            line = masked[pos:eol].strip()
            if line:
                if begins and line[0] not in '{}':
                    first = pos + masked[pos:eol].index(line[0])
                if first is not None and line.endswith(';'):
                    end = pos + masked[pos:eol].rindex(';') + 1
                    yield Statement(first, end, masked[first:end])
                begins = line[-1] in ';{}:)' or line.endswith('else')
                if begins:
                    first = None
            pos = eol

    def is_last(self, statement):
        """Does nothing but the end of the function follow?"""
        return not self.body[statement.end - self.start:].strip(' \t\n}')

    def find(self, pattern):
        """Matches of a pattern in the body, as (start, end, match)."""
        for m in re.finditer(pattern, self.body):
            yield self.start + m.start(), self.start + m.end(), m


def closing(masked, pos):
    """The position behind the parenthesis that closes the one at pos."""
    depth = 0
    for i in range(pos, len(masked)):
        depth += {'(': 1, ')': -1}.get(masked[i], 0)
        if depth == 0:
            return i + 1
    raise ValueError('parenthesis is not closed')


def functions(masked):
    """The functions of a file, by the braces in the first column."""
    for m in re.finditer(r'^\{\n(.*?)^\}', masked, re.S | re.M):
        head = re.split(r'[;}]|\n\s*\n', masked[:m.start()])[-1]
        name = NAME.search(head)
        if name:
            yield Function(name.group(1), m.start(), m.end(), masked)
