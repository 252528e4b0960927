# SPDX-License-Identifier: GPL-2.0-only
"""What was found: kept as JSON lines, shown as tables."""

import json
import threading
from collections import Counter, defaultdict

# elsewhere: a historical mutant is caught, but not by the tests of its row.
COLUMNS = ('caught', 'elsewhere', 'survived', 'stillborn', 'equivalent', 'undecided')
# Why a mutant may be undecided.
LIKELY = 'the likely tests pass'


class Results:
    """One line for each mutant that was tried; of several for one, the last counts."""

    def __init__(self, path, keep):
        self.path = path
        self.lock = threading.Lock()
        self.known = {}
        if keep and path.exists():
            for line in path.read_text().splitlines():
                record = json.loads(line)
                self.known[record['id']] = record
        elif path.exists():
            path.unlink()

    def add(self, record):
        with self.lock:
            self.known[record['id']] = record
            with open(self.path, 'a', encoding='utf-8') as f:
                f.write(json.dumps(record) + '\n')

    def valid(self, mutant, tests):
        """The last record, if it is about the mutant as it is now."""
        record = self.known.get(mutant.id)
        if record and record['digest'] == mutant.digest and tests in (None, record['tests']):
            return record
        return None

    def done(self, mutant, kernels, tests, quick):
        """Is it decided what becomes of this mutant?"""
        record = self.valid(mutant, tests)
        return record is not None and (
            record['verdict'] in ('caught', 'stillborn') and record['kernel'] in kernels or
            record['verdict'] == 'survived' and record['kernel'] == kernels[-1] or
            quick and record['how'] == LIKELY and record['kernel'] in kernels)

    def survived_on(self, mutant, kernel, tests):
        record = self.valid(mutant, tests)
        return record is not None and record['kernel'] == kernel and \
            (record['verdict'] == 'survived' or record['how'].startswith('there is no'))

    def kills(self):
        """{file: Counter of programs that have caught something in it}"""
        kills = defaultdict(Counter)
        with self.lock:
            for record in self.known.values():
                if record['verdict'] in ('caught', 'elsewhere') and record['by']:
                    for path in record['files']:
                        kills[path][record['by'].split()[0]] += 1
        return kills


def table(title, keys):
    """keys: [(key, verdict)]"""
    if not keys:
        return
    rows = defaultdict(Counter)
    for key, verdict in keys:
        rows[key][verdict] += 1
    columns = [c for c in COLUMNS if any(r[c] for r in rows.values())]
    print(f'\n{title:28}' + ''.join(f'{c:>12}' for c in columns) + f'{"rate":>8}')
    for key in sorted(rows):
        line(key, rows[key], columns)
    if len(rows) > 1:
        line('all', sum(rows.values(), Counter()), columns)


def line(key, row, columns):
    decided = row['caught'] + row['elsewhere'] + row['survived']
    rate = f'{100 * row["caught"] / decided:7.1f}%' if decided else f'{"-":>8}'
    print(f'{key:28}' + ''.join(f'{row[c] or "":>12}' for c in columns) + rate)


def complaints(found, results):
    """Why the historical mutants are not all well: lines."""
    for m, verdict in found:
        record = results.valid(m, None) or {'how': 'it has not been tried', 'by': ''}
        why = f'{record["how"]} {record["by"]}'.strip()
        if verdict == 'elsewhere':
            verdict, why = 'caught by another test', f'{why}, and not by those of its row'
        if verdict != 'caught':
            yield f'historical: {m.id}: {verdict}' + (f': {why}' if why else '')


def judged(found, results, bound):
    """True if what was asked for is good enough; says so of each kind.

    The historical ones have to be caught, all that were asked for. Of the others it is a rate,
    and for the worst that those may come to about which nothing is known.
    """
    good = True
    of = {kind: [(m, v) for m, v in found if m.historical == (kind == 'historical')]
          for kind in ('historical', 'systematic')}
    for text in complaints(of['historical'], results):
        print(text)
    for kind, pairs in of.items():
        c = Counter(v for _, v in pairs)
        wanted = len(pairs) - c['equivalent']
        if kind == 'systematic':
            wanted -= c['stillborn']
        if not wanted:
            continue
        enough = c['caught'] == wanted if kind == 'historical' else \
            100 * c['caught'] >= bound * wanted
        good = good and enough
        print(f'{kind}: {wanted} wanted' +
              ''.join(f', {c[v]} {v}' for v in COLUMNS if v in c and v != 'equivalent') +
              f': {100 * c["caught"] / wanted:.1f} %' + ('' if enough else ', not enough'))
    return good


def show(mutants, results, out, bound):
    """Tables and survivors. True if nothing is to be complained of."""
    found = []
    for m in mutants:
        record = results.valid(m, None)
        if m.equivalent:
            found.append((m, 'equivalent'))
        elif record and record['verdict'] in COLUMNS:
            found.append((m, record['verdict']))
        elif m.historical:
            found.append((m, 'undecided'))

    if not found:
        print('nothing is decided')
        return False
    table('rule', [(m.rule, v) for m, v in found])
    table('file', [(m.files[0], v) for m, v in found if not m.historical])
    how = Counter(results.known[m.id]['how'] for m, v in found if v == 'caught')
    print('\ncaught by: ' + (', '.join(f'{n} {h}' for h, n in how.most_common()) or 'none'))
    for m, v in found:
        if v == 'equivalent':
            print(f'equivalent: {m.id}: {m.equivalent}')

    survivors = [m for m, v in found if v == 'survived']
    with open(out / 'survivors.diff', 'w', encoding='utf-8') as f:
        for m in survivors:
            text = f'--- survived: {m.id}: {m.title}\n{m.diff()}\n'
            f.write(text)
            print(f'\n{text}', end='')
    return judged(found, results, bound)
