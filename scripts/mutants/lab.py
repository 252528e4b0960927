# SPDX-License-Identifier: GPL-2.0-only
"""Where mutants are built and tried: a copy of the sources, and virtual machines."""

import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from mutant import KERNELS

COPIED = ('Kbuild', 'Makefile', 'compat', 'fs', 'include', 'scripts', 'tools')
SELFTESTS = 'tools/testing/selftests/cachefiles'
# How a test notices.
HOW = ('failed', 'timeout', 'splat')
VERDICTS = tuple(f'### {how} ' for how in HOW)
# Undefined behaviour says nothing about tests.
NO_MUTANT = re.compile(r'control reaches end of non-void')
SCALE = {'coverage': 2, 'kcsan': 8, 'debug': 10}
BOOT_SECONDS = {'kcsan': 240, 'debug': 400}
# So often a machine is started that does not come up, or dies of what is not ours.
TRIES = 3


def time_scale(kernel):
    return max(int(os.environ.get('CF_TIME_SCALE') or 1), SCALE.get(kernel, 1))


class Failure(Exception):
    """Something other than a mutant has gone wrong."""


class End(NamedTuple):
    """How a machine has ended. at is the position in the plan, -1 before its beginning."""
    verdict: str
    how: str = ''
    by: str = ''
    at: int = -1
    said: tuple = ()


def program_of(entry):
    return entry.split(':')[0]


def what_of(entry):
    """An entry without the seconds: which tests it stands for."""
    program, *rest = entry.split(':')
    return ':'.join([program, *rest[1:]])


def ending(status, lines, plan):
    """What a machine has found, from its status and what run-mutant has printed there."""
    said = tuple(line[4:] for line in lines if line.startswith('### '))
    at = sum(line.startswith(('ok ', 'unloaded')) for line in said) if 'loaded' in said else -1
    last = said[-1].split(None, 2) if said else ['none']
    if status == 0 and last[0] == 'survived':
        return End('survived', at=at, said=said)
    if last[0] in HOW:
        return End('caught', last[0], ' '.join(last[1:]), at, said)
    if last[0] == 'pinned':
        return End('caught', 'pinned', 'unload', at, said)
    how = {124: 'timeout', 125: 'died', 126: 'splat'}.get(status)
    if not how:
        # Neither the machine nor what runs in it ends like that.
        return End('undecided', f'vm.sh has ended with status {status}')
    by = 'load-modules' if at < 0 else program_of(plan[at]) if at < len(plan) else 'end'
    return End('caught', how, by, at, said)


class Lab:
    """One copy of the sources, in which one mutant is built at a time."""

    def __init__(self, top, out, cache, jobs):
        self.out = out
        self.cache = cache
        self.tree = out / 'source'
        self.tests = out / 'tests'
        self.building = threading.Lock()
        # Kernels for which not all is compiled with the headers as they are now.
        self.outdated = set()
        self.machines = threading.Semaphore(jobs)
        self.running = set()
        self.stopped = False
        self.jobs = jobs
        self._copy(top)

    def _copy(self, top):
        """Files that have not changed keep their dates, and so what was built of them."""
        self.tree.mkdir(parents=True, exist_ok=True)
        wanted = set()
        for name in COPIED:
            for path in [top / name, *sorted((top / name).rglob('*'))]:
                if path.is_dir() or not path.exists():
                    continue
                to = self.tree / path.relative_to(top)
                wanted.add(to)
                if to.exists() and to.read_bytes() == path.read_bytes():
                    continue
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to)
        for path in self.tree.rglob('*'):
            if not path.is_dir() and path not in wanted:
                path.unlink()

    def _make(self, log, *args):
        with open(log, 'w', encoding='utf-8') as f:
            with subprocess.Popen(['make', '-s', f'-j{self.jobs}', *args], cwd=self.tree,
                                  stdout=f, stderr=subprocess.STDOUT) as make:
                self.running.add(make)
                status = make.wait()
                self.running.discard(make)
        if self.stopped:
            raise Failure('stopped')
        return status == 0 and not NO_MUTANT.search(log.read_text(errors='replace'))

    def build_tests(self):
        """Programs only: what is a script tests other file systems, and is slow."""
        log = self.out / 'make-tests.log'
        self.tests.mkdir(exist_ok=True)
        harness = self.cache / 'source/tools/testing/selftests'
        if not self._make(log, '-C', SELFTESTS, f'O={self.tests}', f'KSELFTEST_DIR={harness}'):
            raise Failure(f'the tests do not build, see {log}')
        sources = {p.stem for p in (self.tree / SELFTESTS).glob('*_test.c')}
        for path in [*self.tests.glob('*_test'), *self.tests.glob('*_test.sh')]:
            if path.name not in sources:
                path.unlink()
        return sorted(sources)

    def _pack(self, plan, to):
        """What a machine needs of the tests; the less, the sooner it is up."""
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for name in ('erofs.img', *{program_of(p) for p in plan if ':' in p}):
            program, stripped = self.tests / name, self.out / 'stripped' / name
            if name != 'erofs.img' and (not stripped.exists() or
                                        stripped.stat().st_mtime < program.stat().st_mtime):
                stripped.parent.mkdir(exist_ok=True)
                subprocess.run(['strip', '-o', stripped, program], check=True)
            os.link(program if name == 'erofs.img' else stripped, to / name)

    def _modules(self, kernel):
        return self.out / f'modules-{kernel}'

    def _build(self, kernel, log, test_modules='n'):
        return self._make(log, f'KDIR={kernel}', 'DEBUG=y', 'ERROR_INJECTION=y',
                          f'TEST_MODULES={test_modules}', f'BUILD={self._modules(kernel)}')

    def build_base(self, kernel):
        """What every mutant differs from in one file or two."""
        log = self.out / f'make-{kernel}.log'
        with self.building:
            if not self._build(kernel, log, 'y'):
                raise Failure(f'the modules do not build without any mutant, see {log}')
            self._take(kernel, self.out / f'base-{kernel}')

    def _take(self, kernel, to):
        shutil.rmtree(to, ignore_errors=True)
        modules = self._modules(kernel)
        for path in [*modules.glob('fs/*/*.ko'), *modules.glob('test_modules/*.ko')]:
            target = to / path.relative_to(modules)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)

    def build(self, mutant, kernel, to=None):
        """Its modules go to a directory, if they are wanted. Says why it does not compile."""
        log = self.out / 'make-mutant.log'
        with self.building:
            if self.stopped:
                raise Failure('stopped')
            undo = [self._plant(kernel, path, text) for path, text in mutant.planted().items()]
            try:
                if not self._build(kernel, log):
                    return complaint(log)
                self.outdated.discard(kernel)
                if to:
                    self._take(kernel, to)
            finally:
                for back in undo:
                    back()
        return None

    def _plant(self, kernel, path, text):
        """Returns how to take it back, for a .c file without compiling that again.

        After another header that would be what was compiled with the header.
        """
        source = self.tree / path
        old, date = source.read_bytes(), source.stat()
        made = (self._modules(kernel) / path).with_suffix('.o')
        kept = None
        if path.endswith('.c') and made.exists() and kernel not in self.outdated:
            kept = made.read_bytes()
        source.write_text(text)

        def back():
            source.write_bytes(old)
            if not path.endswith('.c'):
                self.outdated.add(kernel)
            if kept is not None:
                os.utime(source, ns=(date.st_atime_ns, date.st_mtime_ns))
                # Newer than what was linked from the other one.
                made.write_bytes(kept)
        return back

    def run(self, modules, kernel, plan, log, tell=None):
        """How one machine ends; tell is called with what is said meanwhile.

        What neither our code nor the tests can be blamed for says nothing about a mutant: it
        is tried again, and if that goes on it stays undecided.
        """
        end = None
        for _ in range(TRIES):
            status, lines = self._vm(modules, kernel, plan, log, tell)
            if lines:
                end = ending(status, lines, plan)
                if end.verdict == 'caught' and (why := self._not_ours(log)):
                    end = End('undecided', why)
                if end.verdict != 'undecided':
                    return end
        if not end:
            raise Failure(f'the machine does not start, see {log}')
        return end

    def _not_ours(self, log):
        """What has killed the machine, if lib.sh knows that it is nothing of this project."""
        lib = self.tree / 'scripts/lib.sh'
        asked = subprocess.run(['bash', '-c', 'set -euo pipefail; . "$0"; not_ours "$1"', lib,
                                log.with_suffix('')], stdout=subprocess.PIPE, text=True,
                               check=False)
        return asked.stdout.strip() if asked.returncode == 0 else None

    def _vm(self, modules, kernel, plan, log, tell):
        with self.machines:
            if self.stopped:
                raise Failure('stopped')
            tests = log.with_suffix('.tests')
            self._pack(plan, tests)
            # A machine that is stopped leaves no console, and must not find an old one.
            console = log.with_suffix('.out')
            shutil.rmtree(console, ignore_errors=True)
            with open(log, 'w', encoding='utf-8') as errors, \
                 subprocess.Popen([self.tree / 'scripts/vm.sh', '--quiet', '--kernel', kernel,
                                   '--build', modules, '--mem', '3072', '--timeout',
                                   str(1800 * time_scale(kernel)),
                                   '--boot-timeout', str(BOOT_SECONDS.get(kernel, 120)),
                                   '--out', console,
                                   '--add', f'{tests}:/job/cachefiles', '--', 'env',
                                   f'CF_TIME_SCALE={time_scale(kernel)}',
                                   'run-mutant', '/job/cachefiles', *plan],
                                  stdout=subprocess.PIPE, stderr=errors, text=True,
                                  errors='replace') as vm:
                self.running.add(vm)
                lines = []
                for line in vm.stdout:
                    lines.append(line.rstrip('\n'))
                    errors.write(line)
                    errors.flush()
                    if tell and line.startswith('### '):
                        tell(line[4:].strip())
                    # With what a mutant has done to it, a machine may not go off by itself.
                    if line.startswith(VERDICTS):
                        vm.terminate()
                vm.wait()
                self.running.discard(vm)
        if self.stopped:
            raise Failure('stopped')
        return vm.returncode, lines

    def stop(self):
        self.stopped = True
        for process in list(self.running):
            process.terminate()


def complaint(log):
    """What a compiler has to say, in a line."""
    for text in log.read_text(errors='replace').splitlines():
        if re.search(r'\berror\b|ERROR', text) or NO_MUTANT.search(text):
            return text
    return f'see {log}'


def now():
    return time.strftime('%Y-%m-%dT%H:%M:%S')


def has_kernel(cache, kernel):
    return kernel not in KERNELS or Path(cache / 'kernels' / kernel).exists()
