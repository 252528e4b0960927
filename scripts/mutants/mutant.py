# SPDX-License-Identifier: GPL-2.0-only
"""Mutants: those of a file in historical/, and those that a rule makes."""

import difflib
import hashlib
import re
from collections import Counter, defaultdict
from pathlib import Path

import defects
from rules import RULES, SANITIZED
from source import functions, mask

HERE = Path(__file__).parent
# Those that have a name; any other is a directory.
KERNELS = ('stock', 'base', 'coverage', 'debug', 'kcsan')
TOTAL = 160
PER_RULE = 3
# Tools of tests, and tracepoints.
NO_TARGETS = {'delay', 'force', 'trace'}
# Where most can go wrong gets more than its lines.
WEIGHTS = {'queue': 4, 'request': 4, 'reply': 4, 'failover': 4, 'fetch': 4, 'anon': 3, 'io': 3,
           'ondemand': 3, 'reap': 3, 'presence': 3, 'io_read': 2, 'io_write': 2, 'object': 2,
           'cache': 2, 'space': 2}
# They make allocations fail, which takes a kernel that can do that.
FAILING = ['failnth_test', 'failnth_original_test', 'failnth_setup_test']
# They do much at the same time, for a kernel that sees who does so without a lock.
RACING = ['race_test', 'stress_test', 'original_stress_test']


class Broken(Exception):
    """A mutant that cannot be planted."""


def digest(*parts):
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


class Mutant:
    """One defect. changes: {path: [(start, end, text)]} in the order of the file."""

    def __init__(self, ident, title, rule, tests, kernels, changes, sources):
        self.id = ident
        self.title = title
        self.rule = rule
        self.tests = tests
        self.kernels = kernels
        self.changes = changes
        self.sources = sources
        self.equivalent = None
        # {program: [test]} that a historical one has to be caught by.
        self.row = {}
        # More tests to begin with, for a kernel.
        self.tests_for = {}

    @property
    def historical(self):
        return self.rule == 'historical'

    @property
    def files(self):
        return sorted(self.changes)

    def planted(self):
        """{path: text} of the files that differ."""
        result = {}
        for path, changes in self.changes.items():
            text = self.sources[path]
            for start, end, new in sorted(changes, reverse=True):
                text = text[:start] + new + text[end:]
            result[path] = text
        return result

    def diff(self, context=3):
        out = []
        for path, text in sorted(self.planted().items()):
            out += difflib.unified_diff(self.sources[path].splitlines(True), text.splitlines(True),
                                        f'a/{path}', f'b/{path}', n=context)
        return ''.join(out)

    def surroundings(self):
        """The lines that are changed, and the next one."""
        lines = ''
        for path, changes in self.changes.items():
            text = self.sources[path]
            begin = text.rindex('\n', 0, changes[0][0]) + 1
            end = text.index('\n', text.index('\n', changes[-1][1]) + 1)
            lines += text[begin:end]
        return lines

    @property
    def digest(self):
        """Of what is changed, wherever in its file that now stands, and of what has to notice."""
        return digest(re.sub(r'^@@.*$', '', self.diff(1), flags=re.M),
                      *(f'{p} {t}' for p in sorted(self.row) for t in sorted(self.row[p])))[:8]


def read_sources(top):
    """{path: text} of all that mutants may change."""
    paths = [p for pattern in ('fs/*/*.[ch]', 'compat/*.[ch]', 'include/**/*.h')
             for p in sorted(top.glob(pattern))]
    return {str(p.relative_to(top)): p.read_text() for p in paths}


# --- historical ---

def historical(sources):
    """All mutants of historical/; those that cannot be planted as (name, why)."""
    good, bad = [], []
    rows = defects.tests_of_entries((HERE.parent.parent / defects.TABLE).read_text())
    for path in sorted((HERE / 'historical').glob('*.mutant')):
        try:
            good.append(parse_historical(path, sources))
            good[-1].row = rows.get(path.stem[:3], {})
        except Broken as error:
            bad.append((path.name, str(error)))
    return good, bad


def parse_historical(path, sources):
    title, tests, kernel = None, [], 'stock'
    changes = defaultdict(list)
    target = None
    block = None
    for nr, line in enumerate(path.read_text().splitlines(True), 1):
        def broken(why, nr=nr):
            return Broken(f'line {nr}: {why}')

        text = line.rstrip('\n')
        if block is not None:
            if text == '====' and 'new' not in block:
                block['new'] = ''
            elif text == '>>>>' and 'new' in block:
                changes[target].append(locate(sources[target], block, broken))
                block = None
            else:
                block['new' if 'new' in block else 'old'] += line
        elif text.startswith('#'):
            words = text.lstrip('# ')
            if m := re.match(r'tests:\s*(.*)', words):
                tests = defects.programs_of(m.group(1))
            elif m := re.match(r'kernel:\s*(\w+)', words):
                kernel = m.group(1)
            elif title is None and (m := re.match(r'D\d+\w*:\s*(.*)', words)):
                title = m.group(1)
        elif m := re.match(r'file\s+(\S+)$', text):
            target = m.group(1)
            if target not in sources:
                raise broken(f'no such file: {target}')
        elif text == '<<<<':
            if target is None:
                raise broken('no file line before it')
            block = {'old': ''}
        elif text.strip():
            raise broken(f'not understood: {text}')
    if block is not None:
        raise Broken('a block is not closed')
    if not changes or title is None or not tests:
        raise Broken('no block, no title "# Dxx: ..." or no "# tests:"')
    if kernel not in KERNELS:
        raise Broken(f'kernel: {kernel}')
    return Mutant(path.stem, title, 'historical', tests, (kernel,), dict(changes), sources)


def locate(text, block, broken):
    count = text.count(block['old']) if block['old'] else 0
    if count != 1:
        raise broken(f'what the block replaces is there {count} times')
    start = text.index(block['old'])
    return start, start + len(block['old']), block['new']


# --- systematic ---

def candidates(sources):
    """Every mutant that the rules can make."""
    for path, text in sources.items():
        if not re.fullmatch(r'fs/\w+/\w+\.c', path) or Path(path).stem in NO_TARGETS:
            continue
        for function in functions(mask(text)):
            for name, rule in RULES.items():
                for nr, changes in enumerate(rule(function), 1):
                    ident = f'{name}/{path[3:]}/{function.name}/{nr}'
                    m = Mutant(ident, rule.__doc__, name, [], ('stock',), {path: changes}, sources)
                    if 'ENOMEM' in m.surroundings():
                        m.kernels = ('coverage', 'stock')
                        m.tests_for = {'coverage': FAILING}
                    elif name in SANITIZED:
                        m.kernels = ('stock', SANITIZED[name])
                        m.tests_for = {'kcsan': RACING}
                    yield m


def quotas(sources, pools):
    """How many mutants each file gets."""
    share = {path: WEIGHTS.get(Path(path).stem, 1) * len(sources[path].splitlines()) ** 0.5
             for path in pools}
    scale = TOTAL / sum(share.values())
    return {path: max(3, round(scale * s)) for path, s in share.items()}


def in_turn(seed, mutants):
    """All mutants of a file, its rules taking turns, in an order that depends on nothing else."""
    by_rule = defaultdict(list)
    for m in sorted(mutants, key=lambda m: digest(seed, m.id)):
        by_rule[m.rule].append(m)
    order = sorted(by_rule, key=lambda r: digest(seed, mutants[0].files[0], r))
    result = []
    while any(by_rule.values()):
        result += [by_rule[r].pop(0) for r in order if by_rule[r]]
    return result


def systematic(sources, seed):
    """The sample, and for each file what takes the place of mutants that do not compile."""
    pools = defaultdict(list)
    for m in candidates(sources):
        pools[m.files[0]].append(m)
    quota = quotas(sources, pools)
    chosen, spare = [], {}
    for path in sorted(pools):
        order = in_turn(seed, pools[path])
        chosen += order[:quota[path]]
        spare[path] = order[quota[path]:]
    count = Counter(m.rule for m in chosen)
    rest = sorted((m for pool in spare.values() for m in pool), key=lambda m: digest(seed, m.id))
    for m in rest:
        if count[m.rule] < PER_RULE:
            count[m.rule] += 1
            chosen.append(m)
            spare[m.files[0]].remove(m)
    return chosen, spare


def read_equivalent():
    """{id: (digest, reason)} of the list of mutants that change nothing."""
    known = {}
    for line in (HERE / 'equivalent').read_text().splitlines():
        if line and not line.startswith('#'):
            ident, mark, reason = line.split(None, 2)
            known[ident] = (mark, reason)
    return known


def mark_equivalent(mutants):
    """Notes the reason; an entry whose code has changed says nothing any more."""
    known = read_equivalent()
    for m in mutants:
        mark, reason = known.get(m.id, (None, None))
        if mark == m.digest:
            m.equivalent = reason
