# SPDX-License-Identifier: GPL-2.0-only
"""
Holds what a kernel has done against what the model allows.

A log is what the tracepoints cachefiles_od_state and cachefiles_req_state say while
one program runs. The moves of an object and of one of its reads must be a path of the
model, seen with everything else left out; and so for each read, and for the object
without any. That works for any number of reads, however few are in the model.
"""
import re
from collections import defaultdict

START = ('CLOSED', 0, 0, 0, 'IDLE', 'IDLE', '-')

LINE = re.compile(r'\s(\d+): (cachefiles_(?:od|req)_state): o=([0-9a-f]+) fd=(\d+) '
                  r'attached=(\d) dead=(\d) (?:(\w+) (\w+) r=(\S+) id=\d+ )?(\w+) -> (\w+)$')


class BadLog(Exception):
    pass


def read_log(name):
    """Objects, each a list of (read or None, label, line)."""
    objects = defaultdict(list)
    lost = None
    with open(name, encoding='ascii') as f:
        for line in f:
            if line.startswith('# lost '):
                lost = int(line.split()[2])
                continue
            m = LINE.search(line)
            if not m:
                raise BadLog(f'{name}: not understood: {line.strip()}')
            _, event, obj, fd, att, dead, od, kind, req, old, new = m.groups()
            if event == 'cachefiles_od_state':
                od, kind, req = old, 'OD', None
            label = (kind, None, old, new, od, int(fd != '0'), int(att), int(dead))
            objects[obj].append((req if kind == 'READ' else None, label, line.strip()))
    if lost is None:
        raise BadLog(f'{name}: it has no end')
    if lost:
        raise BadLog(f'{name}: {lost} events are lost')
    return objects


class Automaton:
    """The relation of the model, one event at a time; what it does not show is free."""

    def __init__(self, relation):
        self.silent = defaultdict(set)
        self.moves = defaultdict(lambda: defaultdict(set))
        self.cache = {}
        for before, events, after in relation:
            if not events:
                self.silent[before].add(after)
                continue
            node = before
            for k, e in enumerate(events):
                rest = events[k + 1:]
                then = (after, rest) if rest else after
                self.moves[node][e].add(then)
                node = then
        self.start = self.closure([START])

    def closure(self, nodes):
        found, todo = set(nodes), list(nodes)
        while todo:
            for n in self.silent.get(todo.pop(), ()):
                if n not in found:
                    found.add(n)
                    todo.append(n)
        return frozenset(found)

    def step(self, nodes, label):
        key = nodes, label
        if key not in self.cache:
            reached = set()
            for n in nodes:
                reached |= self.moves.get(n, {}).get(label, set())
            self.cache[key] = self.closure(reached)
        return self.cache[key]

    def refuses(self, events):
        """The first of @events that no path has, or None."""
        nodes = self.start
        for label, line in events:
            nodes = self.step(nodes, label)
            if not nodes:
                return line
        return None

    def allowed(self):
        """Every move with the state of the od that it happens in."""
        return {short(e) for moves in self.moves.values() for e in moves}


def short(label):
    return label[0], label[4], label[2], label[3]


def show(move):
    kind, od, old, new = move
    return f'od {old} -> {new}' if kind == 'OD' else f'{kind} {old} -> {new} in {od}'


def replay(automaton, name, seen):
    """
    Check the log @name, and count its moves in @seen.

    Return: how many objects, reads and events; and what is wrong, at most one line for
    each object.
    """
    reads = events = 0
    wrong = []
    objects = read_log(name)
    for obj, log in objects.items():
        events += len(log)
        for _, label, _ in log:
            seen[short(label)] += 1
        bad = automaton.refuses([(label, line) for req, label, line in log if req is None])
        each = defaultdict(list)
        for at, (req, _, _) in enumerate(log):
            if req is not None:
                each[req].append(at)
        shared = [at for at, (req, _, _) in enumerate(log) if req is None]
        reads += len(each)
        for mine in each.values():
            if bad:
                break
            bad = automaton.refuses([log[at][1:] for at in sorted(shared + mine)])
        if bad:
            wrong.append(f'object {obj}: not a move of the model: {bad}')
    return (len(objects), reads, events), wrong
