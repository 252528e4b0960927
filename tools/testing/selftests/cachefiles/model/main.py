#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The state machine of the on-demand protocol: explore it, or hold logs against it.

  main.py explore [--reads N,...] [--threads N] [--plant MISTAKE]...
  main.py selftest
  main.py replay DIR... [--need PERCENT]

explore   visits every state. --reads says how many reads there are at once in each range
          of the file, --threads how many threads of daemons; any number of rounds of
          each. Without them, the bounds that "make check" has.
selftest  plants each known mistake, and a move that is forbidden into a log, and expects
          that they are found.
replay    the files *.trace in DIR, see replay.py; all moves must be allowed, and so much
          of what is allowed must have been seen.
"""
import argparse
import glob
import os
import sys
import time
from collections import Counter

from explore import explore
from replay import Automaton, BadLog, replay, show
from world import BUGS

# Two ranges, so that an object is opened again while a READ of before is copied; three
# reads of one, so that what is left of the followers follows one of them.
BOUNDS = (((2, 1), 2), ((3,), 2))
# Enough for every planted mistake, and for every move that an object or a read can make:
# neither a third read of one range nor a third thread adds one.
SMALL = BOUNDS[0]


def describe(reads, threads):
    return f'{"+".join(map(str, reads))} reads, {threads} daemon threads'


def progress(done, left):
    if sys.stderr.isatty():
        print(f'\r{done} states, {left} to do ', end='', file=sys.stderr)


def run(reads, threads, bug=frozenset(), **more):
    start = time.process_time()
    result = explore(reads, threads, bug, progress=progress, **more)
    print(f'{describe(reads, threads)}: {result.states} states, {result.steps} steps, '
          f'{time.process_time() - start:.1f} s of CPU: {result.error or "all rules hold"}',
          flush=True)
    return result


def cmd_explore(args):
    bounds = BOUNDS
    if args.reads or args.threads:
        reads = tuple(int(n) for n in (args.reads or '2,1').split(','))
        bounds = ((reads, args.threads or 2),)
    for reads, threads in bounds:
        result = run(reads, threads, frozenset(args.plant))
        if result.error:
            for step in result.path:
                print('   ', step)
            return 1
    return 0


def cmd_selftest(args):
    missed = 0
    for bug, what in BUGS.items():
        result = explore(*SMALL, bug=frozenset((bug,)))
        if not result.error:
            print(f'MISSED {bug}: {what}')
            missed += 1
        elif args.verbose:
            print(f'found {bug}: {what}: {result.error}, after {len(result.path)} steps')
    print(f'{len(BUGS) - missed} of {len(BUGS)} planted mistakes are found')
    missed += selftest_replay(explore((1,), 1, relation=True).relation)
    return 1 if missed else 0


def selftest_replay(relation):
    """A walk of the model must be accepted, and not with one move more or less."""
    automaton = Automaton(relation)
    walk, nodes, turns = [], automaton.start, Counter()

    def onward(nodes):
        return {e for n in nodes for e in automaton.moves.get(n, ())
                if e[3] != 'DROPPING' and not e[7]}

    while len(walk) < 200:
        moves = [e for e in onward(nodes) if onward(automaton.step(nodes, e))]
        e = min(moves, key=lambda e: (turns[nodes, e], e[0], e[2:]))
        turns[nodes, e] += 1
        nodes = automaton.step(nodes, e)
        walk.append((e, ''))
    if automaton.refuses(walk) is not None:
        print('MISSED a walk of the model is not accepted')
        return 1
    refused = 0
    for at, (e, _) in enumerate(walk):
        # Nothing can be SENT without having been COPYING, nor happen twice.
        twice = walk[:at + 1] + walk[at:]
        skip = walk[:at] + [(e[:2] + ('SENT', 'BLOCKED') + e[4:], '')] + walk[at:]
        refused += (automaton.refuses(twice) is not None) + (automaton.refuses(skip) is not None)
    print(f'{refused} of {2 * len(walk)} logs with a forbidden move are refused')
    return 0 if refused == 2 * len(walk) else 1


def cmd_replay(args):
    files = sorted(f for d in args.dir for f in glob.glob(os.path.join(d, '*.trace')))
    if not files:
        print(f'no *.trace in {" ".join(args.dir)}')
        return 1
    automaton = Automaton(explore(*SMALL, relation=True, progress=progress).relation)
    seen, total, wrong = Counter(), [0, 0, 0], 0
    for name in files:
        try:
            counts, bad = replay(automaton, name, seen)
        except BadLog as e:
            counts, bad = (0, 0, 0), [str(e)]
        total = [a + b for a, b in zip(total, counts)]
        wrong += len(bad)
        for line in bad:
            print(f'{os.path.basename(name)}: {line}')
    allowed = automaton.allowed()
    unseen = sorted(m for m in allowed if not seen[m])
    share = 100 * (len(allowed) - len(unseen)) / len(allowed)
    print(f'note: {total[0]} objects, {total[1]} reads, {total[2]} moves in {len(files)} logs, '
          f'{wrong} objects went astray')
    print(f'note: {len(allowed) - len(unseen)} of {len(allowed)} moves of the model seen '
          f'({share:.1f} %){", but not:" if unseen else ""}')
    for m in unseen:
        print(f'note:   {show(m)}')
    if args.verbose:
        for m in sorted(allowed):
            print(f'note: {seen[m]:8} {show(m)}')
    if share < args.need:
        print(f'less than {args.need} % seen')
    return 1 if wrong or share < args.need else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-v', '--verbose', action='store_true')
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser('explore')
    p.add_argument('--reads')
    p.add_argument('--threads', type=int)
    p.add_argument('--plant', action='append', default=[], choices=BUGS)
    p.set_defaults(go=cmd_explore)
    commands.add_parser('selftest').set_defaults(go=cmd_selftest)
    p = commands.add_parser('replay')
    p.add_argument('dir', nargs='+')
    p.add_argument('--need', type=float, default=95)
    p.set_defaults(go=cmd_replay)
    args = parser.parse_args()
    return args.go(args)


sys.dont_write_bytecode = True
sys.exit(main())
