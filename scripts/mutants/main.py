# SPDX-License-Identifier: GPL-2.0-only
"""Plants defects one at a time and looks whether the tests notice; run by mutants.sh."""

import fnmatch
import json
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import lab as laboratory
import report
from rules import SANITIZED
from mutant import (HERE, digest, historical, candidates, mark_equivalent, read_equivalent,
                    read_sources, systematic)

TOP = HERE.parent.parent
BOUND = 85
# Of a program's time without a mutant, and in seconds.
PATIENCE = 6
LEAST = 25
# So many programs on a kernel that is slow, or wanted for a few of them.
FEW = 4


def option(name, default=None):
    return os.environ.get(name) or default


def say(*what):
    print(f'[{int(time.monotonic() - START):5} s]', *what, flush=True)


START = time.monotonic()


def by_row(at, row, length):
    """Has a plan of some length ended before anything but the tests of the row began?"""
    return 0 <= at < row or at == row == length


class Suite:
    """The test programs: in which order, and how long they may take."""

    def __init__(self, programs, results):
        self.programs = programs
        self.results = results
        self.seconds = {}
        self.unsteady = set()
        self.map = []
        for line in (HERE / 'tests').read_text().splitlines():
            if line and not line.startswith('#'):
                pattern, *tests = line.split()
                self.map.append((pattern, tests))

    def limit(self, kernel, what):
        known = self.seconds.get(kernel, {})
        usual = known.get(what) or known.get(laboratory.program_of(what), 90)
        return int(LEAST * laboratory.time_scale(kernel) + PATIENCE * usual)

    def entry(self, kernel, what):
        """An entry of a plan; what is PROGRAM or, for some of its tests, PROGRAM:TEST,TEST."""
        program, *tests = what.split(':')
        return ':'.join([program, str(self.limit(kernel, what)), *tests])

    def order(self, mutant, kernel):
        """Programs that are likely to catch it, then all others."""
        kills = self.results.kills()
        first = mutant.tests + mutant.tests_for.get(kernel, [])
        for path in mutant.files:
            mapped = [t for p, tests in self.map if fnmatch.fnmatch(path, p) for t in tests]
            of_file = kills[path]
            first += sorted(mapped, key=lambda t: -of_file[t])
            first += [t for t, _ in of_file.most_common()]
        steady = set(self.programs) - self.unsteady
        first = [t for t in dict.fromkeys(first) if t in steady]
        seconds = self.seconds.get(kernel, {})
        rest = sorted(steady - set(first), key=lambda t: seconds.get(t, 0))
        return first, rest

    def row(self, mutant, kernel):
        """The beginning of a plan: the tests of the mutant's row, those first that it names."""
        steady = set(self.programs) - self.unsteady
        whats = [f'{p}:{",".join(mutant.row[p])}' for p in dict.fromkeys(
            [*mutant.tests, *mutant.row]) if p in steady and p in mutant.row]
        entries = [self.entry(kernel, w) for w in whats if w not in self.unsteady]
        return entries + ['unload'] if entries else []

    def plan(self, mutant, kernel):
        """What is run, one after the other, and how much of it are the tests of its row."""
        row = self.row(mutant, kernel)
        return row + self.others(mutant, kernel, bool(row)), len(row)

    def others(self, mutant, kernel, has_row):
        if has_row and option('QUICK') == 'y':
            return []
        first, rest = self.order(mutant, kernel)
        if option('QUICK') == 'y':
            first, rest = [t for t in mutant.tests if t in first] or first, []
        if kernel in laboratory.SCALE and option('ALL') != 'y':
            asked = len(mutant.tests_for.get(kernel, [])) + len(mutant.tests)
            first, rest = first[:max(FEW, asked + 2)], []
        return ([self.entry(kernel, t) for t in first] + ['unload'] +
                ([self.entry(kernel, t) for t in rest] + ['unload'] if rest else []))


class Run:
    """A run over some mutants."""

    def __init__(self, mutants, spare, kernel):
        self.kernel = kernel
        self.jobs = int(option('JOBS', 1))
        out = TOP / 'build/mutants'
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        self.resume = option('RESUME')
        self.results = report.Results(out / 'results.jsonl', self.resume)
        self.mutants = mutants
        self.spare = spare
        self.lab = laboratory.Lab(TOP, out, Path(os.environ['CACHE']), self.jobs)
        self.queue = queue.Queue()
        self.count = 0
        self.lock = threading.Lock()
        self.failure = None

    def available(self, kernel):
        return laboratory.has_kernel(self.lab.cache, kernel)

    def prepare(self):
        say('building the tests')
        programs = [p for p in self.lab.build_tests() if p not in option('WITHOUT', '').split()]
        self.suite = Suite(programs, self.results)
        self.tests_digest = digest(*(p.read_text() for p in sorted(
            (self.lab.tree / laboratory.SELFTESTS).glob('**/*.[ch]'))))[:8]
        kernels = {k for m in self.todo() for k in self.kernels_of(m) if self.available(k)}
        for kernel in sorted(kernels, reverse=True):
            say(f'building the modules for the {kernel} kernel')
            self.lab.build_base(kernel)
            self.baseline(kernel)

    def baseline(self, kernel):
        """Without any mutant everything has to pass that is going to be run.

        A test that fails now and then says nothing about a mutant: it is left out.
        """
        wanted = {laboratory.what_of(e) for m in self.todo() if kernel in self.kernels_of(m)
                  for e in self.suite.plan(m, kernel)[0]} - {'unload'}
        # Of a program that is run as a whole, nothing has to be run once more.
        wanted = {w for w in wanted if ':' not in w or laboratory.program_of(w) not in wanted}
        kept = self.out / f'baseline-{kernel}.json'
        mark = digest(self.tests_digest, *read_sources(self.lab.tree).values())
        seconds, unsteady = {}, []
        if self.resume and kept.exists():
            known = json.loads(kept.read_text())
            if known['digest'] == mark:
                seconds, unsteady = known['seconds'], known['unsteady']
        failed = Counter()
        while left := sorted(wanted - set(seconds) - set(unsteady)):
            say(f'running {len(left)} programs on the {kernel} kernel without any mutant')
            plan = [self.suite.entry(kernel, p) for p in left] + ['unload']
            end = self.lab.run(self.out / f'base-{kernel}', kernel, plan,
                               self.out / f'baseline-{kernel}.log', say)
            seconds |= {what: int(line.split()[2]) for what, line in
                        zip(left, [line for line in end.said if line.startswith('ok ')])}
            if end.verdict != 'survived':
                what = left[end.at] if 0 <= end.at < len(left) else None
                failed[what] += 1
                if what is None or failed[what] > 1:
                    raise laboratory.Failure(f'the tests fail without any mutant: {end.how} '
                                             f'{end.by}, see {self.out}/baseline-{kernel}.log')
            for what in set(failed) & set(seconds):
                say(f'{what} has failed once and passed once: it is left out')
                unsteady.append(what)
                del seconds[what]
            kept.write_text(json.dumps({'digest': mark, 'seconds': seconds,
                                        'unsteady': unsteady}))
        say(f'they pass, in {sum(seconds.values())} s')
        self.suite.seconds[kernel] = seconds
        self.suite.unsteady |= set(unsteady)

    def every_kernel_of(self, mutant):
        return (self.kernel,) if self.kernel else mutant.kernels

    def kernels_of(self, mutant):
        every = self.every_kernel_of(mutant)
        return every[:1] if option('QUICK') == 'y' else every

    def since(self):
        """What the tests have to be for a result to count."""
        return self.tests_digest if self.resume == 'tests' else None

    def todo(self):
        return [m for m in self.mutants if not m.equivalent and
                not (self.resume and self.results.done(m, self.every_kernel_of(m), self.since(),
                                                       option('QUICK') == 'y'))]

    def all(self):
        """Builds of the next mutants go on while machines run."""
        for m in self.todo():
            self.queue.put(m)
        self.total = self.queue.qsize()
        threads = [threading.Thread(target=self.work, args=(nr,)) for nr in range(self.jobs + 1)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if self.failure:
            raise self.failure

    def work(self, nr):
        while not self.failure:
            try:
                mutant = self.queue.get_nowait()
            except queue.Empty:
                return
            try:
                self.one(mutant, nr)
            except laboratory.Failure as failure:
                with self.lock:
                    self.failure = self.failure or failure
                self.lab.stop()

    def one(self, mutant, nr):
        start = time.monotonic()
        tried, verdict, how, by = None, 'undecided', '', ''
        for kernel in self.kernels_of(mutant):
            if self.resume and self.results.survived_on(mutant, kernel, self.since()):
                tried, verdict = kernel, 'survived'
                continue
            if not self.available(kernel):
                # What survived on another kernel is not decided.
                verdict, how = 'undecided', f'there is no {kernel} kernel'
                break
            tried = kernel
            modules = self.out / f'mutant-{nr}'
            if why := self.lab.build(mutant, kernel, modules):
                verdict, how = 'stillborn', why
                break
            verdict, how, by = self.verdict(mutant, kernel, modules, nr)
            if verdict in ('caught', 'elsewhere'):
                break
            if verdict == 'survived' and option('QUICK') == 'y' and \
                    kernel not in SANITIZED.values():
                verdict, how = 'undecided', report.LIKELY
        self.results.add({'id': mutant.id, 'digest': mutant.digest, 'tests': self.tests_digest,
                          'files': mutant.files, 'kernel': tried, 'verdict': verdict, 'how': how,
                          'by': by, 'seconds': round(time.monotonic() - start),
                          'at': laboratory.now()})
        with self.lock:
            self.count += 1
            say(f'{self.count}/{self.total} {verdict:9} {mutant.id}' +
                (f': {how} {by}' if how else '') + f' ({time.monotonic() - start:.0f} s)')
            if verdict == 'stillborn' and not mutant.historical:
                self.replace(mutant)

    def verdict(self, mutant, kernel, modules, nr):
        """(verdict, how, by) of a mutant that has been built."""
        plan, row = self.suite.plan(mutant, kernel)
        end = self.lab.run(modules, kernel, plan, self.out / f'mutant-{nr}.log')
        if end.verdict == 'caught' and option('CONFIRM') == 'y':
            end = self.confirmed(modules, kernel, plan, end, nr)
        verdict = end.verdict
        if verdict == 'caught' and mutant.historical and not by_row(end.at, row, len(plan)):
            verdict = 'elsewhere'
        return verdict, end.how, end.by

    def confirmed(self, modules, kernel, plan, end, nr):
        """On a busy machine a test may fail for want of time: does it do so again?"""
        again = plan[max(end.at, 0):end.at + 1]
        if again in ([], ['unload']):
            # Of what has run until then.
            again = plan[:end.at + 1]
        more = self.lab.run(modules, kernel, again or plan[:1], self.out / f'mutant-{nr}.log')
        if more.verdict == 'caught':
            return end._replace(how=more.how, by=more.by)
        if more.verdict == 'survived':
            return end._replace(verdict='undecided', how=f'{end.how} once in two runs')
        return more

    def replace(self, mutant):
        """The next one of the same file is tried instead."""
        pool = self.spare.get(mutant.files[0])
        if pool:
            self.mutants.append(pool.pop(0))
            mark_equivalent(self.mutants[-1:])
            if not self.mutants[-1].equivalent:
                self.total += 1
                self.queue.put(self.mutants[-1])


def chosen():
    """The mutants that the environment asks for: (list, spare ones, unplantable ones)."""
    sources = read_sources(TOP)
    old, bad = historical(sources)
    new, spare = [], {}
    seed = option('SEED', '1')
    if option('HISTORICAL') != 'y':
        new, spare = systematic(sources, seed)
    globs = option('ONLY', '').split()

    def is_meant(ident):
        return any(fnmatch.fnmatchcase(ident, g) for g in globs)

    if globs:
        bad = [(name, why) for name, why in bad if is_meant(Path(name).stem)]
        picked = [m for m in old + new if is_meant(m.id)] or \
            [m for m in candidates(sources) if is_meant(m.id)]
        old = [m for m in picked if m.historical]
        new = [m for m in picked if not m.historical]
    # In this order a run that is interrupted is a sample, too.
    new.sort(key=lambda m: digest(seed, m.id))
    if option('SAMPLE'):
        new = new[:int(option('SAMPLE'))]
    mark_equivalent(new)
    return old + new, spare, bad, seed


def list_mutants():
    mutants, _, _, _ = chosen()
    for m in mutants:
        print(f'{m.id}: ' + (f'equivalent: {m.equivalent}' if m.equivalent else m.title))
    return 0


def show(ident):
    sources = read_sources(TOP)
    found = [m for m in [*historical(sources)[0], *candidates(sources)] if m.id == ident]
    for m in found:
        print(f'{m.id} {m.digest}: {m.title}\n{m.diff()}', end='')
    if not found:
        print(f'no mutant {ident}', file=sys.stderr)
    return 0 if found else 1


def check():
    """Can all of them be planted, and is the list of equivalent ones up to date?"""
    sources = read_sources(TOP)
    good, bad = historical(sources)
    tests = {p.stem for p in (TOP / laboratory.SELFTESTS).glob('*_test.[cs]*')}
    for m in good:
        bad += [(m.id, f'there is no test {t}') for t in m.tests if t not in tests]
    every = {m.id: m for m in candidates(sources)}
    for ident, (mark, _) in read_equivalent().items():
        if ident not in every or every[ident].digest != mark:
            print(f'note: {ident}: listed as equivalent, but its code has changed')
    for name, why in bad:
        print(f'{name}: {why}')
    print(f'note: {len(good)} historical mutants, {len(every)} that rules can make')
    return 1 if bad else 0


def build():
    """Do the historical ones compile? That takes no machine."""
    mutants, _, bad, _ = chosen()
    mutants = [m for m in mutants if m.historical or option('ONLY')]
    kernel = option('KERNEL', 'stock')
    out = TOP / 'build/mutants'
    out.mkdir(parents=True, exist_ok=True)
    lab = laboratory.Lab(TOP, out, Path(os.environ['CACHE']), int(option('JOBS', 1)))
    try:
        lab.build_base(kernel)
        for m in mutants:
            say(m.id)
            if why := lab.build(m, kernel):
                bad.append((m.id, why))
    except laboratory.Failure as failure:
        print(f'mutants.sh: {failure}', file=sys.stderr)
        return 1
    for name, why in bad:
        print(f'{name}: {why}')
    print(f'note: {len(mutants)} mutants for the {kernel} kernel, {len(bad)} of them wrong')
    return 0 if mutants and not bad else 1


def run():
    mutants, spare, bad, seed = chosen()
    kernel = option('KERNEL')
    for name, why in bad:
        say(f'cannot be planted: {name}: {why}')
    say(f'{sum(m.historical for m in mutants)} historical and '
        f'{sum(not m.historical for m in mutants)} systematic mutants, SEED={seed}')
    this = Run(mutants, spare, kernel)

    def stop(*_):
        this.failure = laboratory.Failure('interrupted; RESUME=y goes on')
        this.lab.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    failure = None
    try:
        this.prepare()
        this.all()
    except laboratory.Failure as error:
        failure = this.failure or error
    good = report.show(this.mutants, this.results, this.out, BOUND)
    if failure:
        print(f'mutants.sh: {failure}', file=sys.stderr)
    return 0 if good and not bad and not failure else 1


def main(args):
    if args[:1] == ['--list']:
        return list_mutants()
    if args[:1] == ['--show'] and len(args) == 2:
        return show(args[1])
    if args[:1] == ['--check']:
        return check()
    if args[:1] == ['--build']:
        return build()
    return run()


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
