#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Does what counts mutants count them right? No kernel and no machine is needed."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import defects
import lab
import main
import report

ROW = ['race_test:90:d08_one,d08_two', 'poll_test:60:d08_three', 'unload']
PLAN = ROW + ['read_test:60', 'unload']
BEGUN = ['### begin', '### loaded']
OK = '### ok race_test 3'

TABLE = """
.. list-table:: Known defects

   * - entry
     - what it was
     - tests
     - planted
   * - D75, D76
     - This
     - ``a_test::one``,
       ``b_test.sh::two``, ``a_test::three``
     - ``D75``: that
"""


def mutant(ident, kind='historical', equivalent=None):
    return SimpleNamespace(id=ident, historical=kind == 'historical', equivalent=equivalent,
                           digest='1', rule=kind, title='', files=['fs/x.c'], diff=str)


class Endings(unittest.TestCase):
    """What is made of how a machine has ended, and of when."""

    def end(self, status, *lines, plan=None):
        end = lab.ending(status, [*lines], plan or PLAN)
        return end.verdict, end.how, end.by, main.by_row(end.at, len(ROW), len(plan or PLAN))

    def test_survived(self):
        self.assertEqual(lab.ending(0, BEGUN + ['### survived'], PLAN).verdict, 'survived')

    def test_a_test_of_the_row(self):
        self.assertEqual(self.end(130, *BEGUN, OK, '### failed poll_test x.d08_three'),
                         ('caught', 'failed', 'poll_test x.d08_three', True))

    def test_unloading_after_the_row(self):
        ends = BEGUN + [OK, OK]
        self.assertTrue(self.end(1, *ends, '### pinned by what has run before')[3])
        self.assertTrue(self.end(126, *ends)[3])

    def test_another_test(self):
        ends = BEGUN + [OK, OK, '### unloaded']
        self.assertEqual(self.end(130, *ends, '### failed read_test x.y'),
                         ('caught', 'failed', 'read_test x.y', False))
        self.assertEqual(self.end(125, *ends), ('caught', 'died', 'read_test', False))

    def test_at_the_end(self):
        """Such as a leak, which is the row's if nothing else has run."""
        row = BEGUN + [OK, OK, '### unloaded']
        self.assertEqual(self.end(126, *row, '### survived', plan=ROW),
                         ('caught', 'splat', 'end', True))
        self.assertEqual(self.end(126, *row, OK, '### unloaded', '### survived'),
                         ('caught', 'splat', 'end', False))

    def test_no_test_has_run(self):
        self.assertEqual(self.end(125, '### begin'), ('caught', 'died', 'load-modules', False))
        self.assertFalse(self.end(1, '### begin', '### failed load-modules modprobe')[3])

    def test_no_row(self):
        self.assertFalse(main.by_row(0, 0, 2))

    def test_nobody_knows(self):
        for status in (-9, 1, 130, 0):
            self.assertEqual(self.end(status, *BEGUN)[0], 'undecided')


class Planting(unittest.TestCase):
    """What is compiled again when a mutant is taken back."""

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)
        self.lab = lab.Lab.__new__(lab.Lab)
        self.lab.tree, self.lab.out, self.lab.outdated = self.dir, self.dir, set()
        self.object = self.dir / 'modules-stock/a.o'
        self.object.parent.mkdir()
        for name in ('a.c', 'a.h'):
            (self.dir / name).write_text('right')
        self.object.write_text('right')

    def plant(self, path):
        back = self.lab._plant('stock', path, 'wrong')
        self.object.write_text('wrong')
        back()

    def test_source(self):
        self.plant('a.c')
        self.assertEqual(self.object.read_text(), 'right')

    def test_source_after_header(self):
        self.plant('a.h')
        self.plant('a.c')
        self.assertEqual(self.object.read_text(), 'wrong')
        self.assertGreater((self.dir / 'a.c').stat().st_mtime_ns,
                           self.object.stat().st_mtime_ns)


class Machines(unittest.TestCase):
    """Which runs are repeated."""

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)
        self.lab = lab.Lab.__new__(lab.Lab)
        self.lab.tree = lab.Path(main.TOP)
        self.log = self.dir / 'mutant-0.log'

    def run_with(self, *ends):
        """ends: (status, lines, what the console says) of one machine after the other"""
        left = list(ends)

        def machine(*_):
            status, lines, console = left.pop(0)
            out = self.log.with_suffix('.out')
            out.mkdir(exist_ok=True)
            (out / 'console.log').write_text(console)
            return status, lines

        with mock.patch.object(self.lab, '_vm', side_effect=machine, create=True):
            return self.lab.run(None, 'stock', PLAN, self.log), len(left)

    DONATION = "netfs: Can't donate prior to front\nkernel BUG at fs/netfs\n"
    DIED = (126, BEGUN, DONATION)
    PASSED = (0, BEGUN + ['### survived'], '')

    def test_not_ours(self):
        end, left = self.run_with(self.DIED, self.PASSED)
        self.assertEqual((end.verdict, left), ('survived', 0))

    FLAGS = ('[ 1.1] Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI\n'
             '[ 1.1] RSP: 0018:ffffc9000068f820 EFLAGS: 004a9a82\n'
             '[ 1.1] RDX: 0000000015d5e001 RSI: 000000000003c9d0 RDI: ffff8881004a9a80\n'
             '[ 1.1] Call Trace:\n')

    def test_flags(self):
        end, left = self.run_with((126, BEGUN, self.FLAGS), self.PASSED)
        self.assertEqual((end.verdict, left), ('survived', 0))
        for wrong in ('RDI: ffff8881004a9a80', 'RDI: ffff8881004a9a88'), \
                     ('double fault', 'page fault'):
            end, left = self.run_with((126, BEGUN, self.FLAGS.replace(*wrong)), self.PASSED)
            self.assertEqual((end.verdict, left), ('caught', 1))
        low = self.FLAGS.replace('004a9a8', '00480a8')
        end, left = self.run_with((126, BEGUN, low), self.PASSED)
        self.assertEqual((end.verdict, left), ('caught', 1))

    def test_never_ours(self):
        end, left = self.run_with(*[self.DIED] * lab.TRIES)
        self.assertEqual((end.verdict, left), ('undecided', 0))
        self.assertIn('donation', end.how)

    def test_ours(self):
        end, left = self.run_with((126, BEGUN, 'BUG: KASAN: use-after-free\n'), self.PASSED)
        self.assertEqual((end.verdict, end.how, left), ('caught', 'splat', 1))

    def test_killed_by_somebody(self):
        end, left = self.run_with((-9, BEGUN, ''), self.PASSED)
        self.assertEqual((end.verdict, left), ('survived', 0))

    def test_does_not_start(self):
        with self.assertRaises(lab.Failure):
            self.run_with(*[(125, [], '')] * lab.TRIES)


class Confirmed(unittest.TestCase):
    """What a second look makes of the first one."""

    def confirmed(self, at, more, how='died'):
        ran = []

        class FakeLab:
            def run(self, _modules, _kernel, plan, _log):
                ran.append(plan)
                return more

        run = main.Run.__new__(main.Run)
        run.lab, run.out = FakeLab(), Path('.')
        end = run.confirmed(None, 'stock', PLAN, lab.End('caught', how, 'race_test', at), 0)
        return end, ran[0]

    def test_again(self):
        for how in ('died', 'splat', 'failed', 'timeout'):
            end, plan = self.confirmed(1, lab.End('caught', how, 'poll_test', 0), how)
            self.assertEqual((end.verdict, end.at, plan), ('caught', 1, PLAN[1:2]))

    def test_once(self):
        end, _ = self.confirmed(0, lab.End('survived'))
        self.assertEqual(end.verdict, 'undecided')

    def test_of_what_has_run_until_then(self):
        for at, plan in ((2, ROW), (len(PLAN), PLAN)):
            self.assertEqual(self.confirmed(at, lab.End('caught'))[1], plan)


class Judgement(unittest.TestCase):
    """When is a run good?"""

    def judged(self, *verdicts, kind='historical'):
        mutants = [mutant(f'D{nr:02}', kind) for nr in range(len(verdicts))]
        results = report.Results(Path('/nonexistent'), False)
        results.known = {m.id: {'id': m.id, 'digest': '1', 'verdict': v, 'how': 'why', 'by': 'who',
                                'kernel': 'stock', 'tests': '1', 'files': m.files}
                         for m, v in zip(mutants, verdicts) if v}
        with tempfile.TemporaryDirectory() as out, \
                contextlib.redirect_stdout(io.StringIO()) as said:
            good = report.show(mutants, results, Path(out), 85)
        return good, said.getvalue()

    def test_all_caught(self):
        self.assertTrue(self.judged('caught', 'caught')[0])

    def test_historical_ones_have_to_be_caught(self):
        for verdict in ('stillborn', 'undecided', 'survived', 'elsewhere', None):
            good, said = self.judged('caught', verdict)
            self.assertFalse(good, verdict)
            self.assertIn('historical: D01: ', said)
            self.assertNotIn('historical: D00: ', said)

    def test_systematic_ones_are_a_rate(self):
        good = ['caught'] * 9
        self.assertTrue(self.judged(*good, 'survived', kind='systematic')[0])
        self.assertFalse(self.judged(*good, 'survived', 'survived', kind='systematic')[0])

    def test_undecided_ones_are_not_caught(self):
        self.assertFalse(self.judged(*['undecided'] * 3, kind='systematic')[0])
        self.assertFalse(self.judged('caught', 'undecided', kind='systematic')[0])

    def test_stillborn_ones_are_none(self):
        self.assertTrue(self.judged('caught', 'stillborn', None, kind='systematic')[0])

    def test_nothing(self):
        self.assertFalse(self.judged()[0])


class Plans(unittest.TestCase):
    """What is run, and in which order."""

    def plan(self, **environment):
        suite = main.Suite.__new__(main.Suite)
        suite.programs = ['poll_test', 'race_test', 'read_test']
        suite.unsteady, suite.map = set(), []
        suite.seconds = {'stock': {'race_test:one,two': 10, 'poll_test': 20, 'read_test': 1}}
        suite.results = mock.Mock(**{'kills.return_value': main.Counter()})
        m = mutant('D08')
        m.tests, m.tests_for, m.files = ['poll_test'], {}, []
        m.row = {'race_test': ['one', 'two'], 'poll_test': ['three'], 'script_test': ['four']}
        with mock.patch.dict(os.environ, environment):
            return suite.plan(m, 'stock')

    def test_row_first(self):
        plan, row = self.plan(QUICK='', CF_TIME_SCALE='1')
        self.assertEqual(plan[:row], ['poll_test:145:three', 'race_test:85:one,two', 'unload'])
        self.assertEqual(plan[row:][0], 'poll_test:145')
        self.assertIn('read_test:31', plan)

    def test_quick(self):
        plan, row = self.plan(QUICK='y')
        self.assertEqual(len(plan), row)


class Table(unittest.TestCase):
    def test_rows(self):
        tests = {'a_test': ['one', 'three'], 'b_test': ['two']}
        self.assertEqual(defects.tests_of_entries(TABLE), {'D75': tests, 'D76': tests})

    def test_programs(self):
        self.assertEqual(defects.programs_of('a_test b_test.sh (or c_test)'), ['a_test', 'b_test'])

    def test_a_mutant_that_its_row_knows_nothing_of(self):
        """check-defects complains of it."""
        names = {'historical/D38.mutant': ('own_test', 'kill_test'),
                 'historical/D04.mutant': ('delivery_test', 'fault_test delivery_test')}
        with tempfile.TemporaryDirectory() as copy:
            for part in ('fs', 'compat', 'scripts/mutants', 'tools/testing/selftests/cachefiles'):
                shutil.copytree(main.TOP / part, Path(copy) / part)
            for name, (old, new) in names.items():
                path = Path(copy) / 'scripts/mutants' / name
                path.write_text(path.read_text().replace(f'# tests: {old}', f'# tests: {new}'))
            check = subprocess.run([main.TOP / 'scripts/check-defects', copy], text=True,
                                   stdout=subprocess.PIPE, check=False)
        self.assertEqual(check.returncode, 1)
        self.assertEqual([line.split(', ')[0] for line in check.stdout.splitlines()],
                         ['scripts/mutants/historical/D04.mutant: names fault_test',
                          'scripts/mutants/historical/D38.mutant: names kill_test'])


if __name__ == '__main__':
    text = io.StringIO()
    done = unittest.TextTestRunner(stream=text).run(
        unittest.defaultTestLoader.loadTestsFromModule(sys.modules['__main__']))
    print(f'note: {done.testsRun} unit tests' if done.wasSuccessful() else text.getvalue())
    sys.exit(not done.wasSuccessful())
