# SPDX-License-Identifier: GPL-2.0-only
"""
Visits every state that can be reached, and checks in each of them:

listed    The od is on the ready list exactly if it has something to deliver, and daemons
          were woken when it got there.
closed    CLOSED: no current descriptor. OPEN: one. Anything but CLOSED or DROPPING: the
          object is alive.
owner     A request that is COPYING is copied by one thread, one ATTACHING attached by one.
answer    A request that is SENT can be answered. What is SENT or ATTACHING belongs to a
          state of the od in which that is so. What was taken over is not left to somebody
          who is dead.
follow    What follows has something to follow.
ids       As many ids are reserved as requests have one.
watched   A read that waits is watched by the reaper, so that its reader can be killed.
gone      In DROPPING, and when the cache is dead, no read waits and no OPEN is left. An
          object is not freed while its file is being attached.
cancelled A read that was cancelled does not wait again.

And of all together: from every state the kernel and a daemon that does what it is asked
get to a state in which nothing is left, whatever the order of what has gone before; if
the cache is dead, the kernel alone.
"""
from collections import deque

from world import READ, UNDER_WAY, Broken, initial, steps

# In this order a helpful party acts; what helps not is left out.
DAEMON = ('arm', 'pick', 'pick READ', 'READ_COMPLETE', 'copen', 'fd closed', 'stale fd closed')


def broken_rule(s, w):
    reads = ''.join(s.reads)
    if s.ready != w.deliverable():
        return 'listed: deliverable and not on the list' if not s.ready else \
               'listed: on the list and not deliverable'
    if (s.od == 'CLOSED' and s.anon) or (s.od == 'OPEN' and not (s.anon and s.att)):
        return 'closed: descriptor and state of the od disagree'
    if s.od not in ('CLOSED', 'DROPPING') and s.obj != 'live':
        return 'closed: open without an object'
    if (s.open == 'COPYING' and s.threads.count('O') != 1) or \
       (s.close == 'COPYING' and s.threads.count('X') != 1) or \
       (s.open == 'ATTACHING' and s.cop == '.'):
        return 'owner: OPEN or CLOSE'
    for r, x in enumerate(s.reads):
        if sum(x.count(y) for y in UNDER_WAY) > 1:
            return 'owner: two READs of one range'
        if x.count('C') + x.count('c') != s.threads.count(str(r)):
            return 'owner: READ'
        if 'F' in x and not any(y in UNDER_WAY for y in x):
            return 'follow: nothing to follow'
    if 's' in reads or ('S' in reads and not (s.od == 'OPEN' and s.anon)):
        return 'answer: a READ is SENT that nobody can answer'
    if s.open in ('QUEUED', 'COPYING', 'SENT', 'ATTACHING') and \
       s.od not in ('OPENING', 'REOPENING'):
        return 'answer: an OPEN is under way that nobody waits for'
    if s.open in ('QUEUED', 'COPYING') and s.anon:
        return 'answer: an OPEN is delivered again over its descriptor'
    if s.taken and s.open != 'ATTACHING':
        return 'answer: an OPEN that was taken over is left to who had it'
    if s.od in ('OPENING', 'REOPENING') and s.open in ('IDLE', 'DONE'):
        return 'answer: opening without an OPEN'
    if s.ids != (s.open in ('QUEUED', 'COPYING', 'SENT', 'ATTACHING')) + s.threads.count('A') + \
       sum(y in UNDER_WAY for y in reads):
        return 'ids'
    if not s.armed and any(y in 'B' + UNDER_WAY for y in reads):
        return 'watched'
    if (s.dead or s.od == 'DROPPING') and any(y in 'BF' + UNDER_WAY for y in reads):
        return 'gone: a read waits'
    if s.cop == 'attaching' and s.obj == 'gone':
        return 'gone: an object that copen works on'
    if s.od == 'DROPPING' and reads.strip('-'):
        return 'gone: a read in a dropped object'
    return None


def broken_step(s, name, w, t):
    if t.ready and not s.ready and not w.woken:
        return 'listed: daemons were not woken'
    if name == 'cancel' and any(y in 'BF' + UNDER_WAY for y in ''.join(t.reads)):
        return 'cancelled: still waiting'
    for e in w.events:
        if e[0] == 'READ' and e[3] in ('BLOCKED', 'FOLLOWING', 'QUEUED') and e[2] == 'IDLE':
            r, _ = e[1]
            lost = s.reads[r].count('l') + s.reads[r].count('k') + s.reads[r].count('i')
            now = t.reads[r].count('l') + t.reads[r].count('k') + t.reads[r].count('i')
            if now < lost:
                return 'cancelled: waits again'
    return None


def at_rest(s):
    """Nothing is left to do; nobody waits for anything."""
    return not ''.join(s.reads).strip('-') and not s.threads.strip('.') and s.cop == '.' and \
        s.open in ('IDLE', 'DONE') and s.ids == 0 and not s.ready


class Result:
    def __init__(self):
        self.states = self.steps = 0
        self.error = None
        self.path = []
        self.relation = set()


def project(s, x):
    return (s.od, s.att, s.anon, s.dead, s.open, s.close, x)


def note_relation(relation, s, w, t):
    """What a step is for each single read, and for the object without one."""
    before, after = project(s, '-'), project(t, '-')
    shared = tuple(e for e in w.events if e[0] != 'READ')
    relation.add((before, shared, after))
    for r, reads in enumerate(w.before):
        for i, x in enumerate(reads):
            y = w.reads[r][i]
            if x == y == '-':
                continue
            events = tuple((e[0], None) + e[2:] for e in w.events
                           if e[0] != 'READ' or e[1] == (r, i))
            relation.add((before[:-1] + (x,), events, after[:-1] + (y,)))


def path_to(s, came):
    path = []
    while came[s] is not None:
        s, name = came[s]
        path.append(name)
    return path[::-1]


def follow_helpers(result, came, helpers):
    """Each state has at most one helpful step that is taken; all must end at rest."""
    good = set()
    for s in came:
        trail, seen = [], set()
        while s not in good:
            if s in seen:
                return s, 'stuck: helping goes on for ever'
            seen.add(s)
            trail.append(s)
            if s not in helpers:
                if not at_rest(s):
                    return trail[0], f'stuck: nobody can help\n  {s}'
                break
            s = helpers[s]
        good.update(trail)
    return None, None


def explore(ranges, threads, bug=frozenset(), limit=0, relation=False, progress=None):
    result = Result()
    start = initial(ranges, threads)
    came = {start: None}
    helpers = {}
    queue = deque([start])

    def fail(s, what, *more):
        result.error = what
        result.path = path_to(s, came) + list(more) + [f'in {s}']
        return result

    while queue:
        s = queue.popleft()
        result.states += 1
        if progress and result.states % 50000 == 0:
            progress(result.states, len(queue))
        best = None
        it = steps(s, bug)
        while True:
            try:
                name, w = next(it)
            except StopIteration:
                break
            except Broken as e:
                return fail(s, str(e))
            t = w.freeze()
            result.steps += 1
            if name[0] == '+' and t != s:
                rank = DAEMON.index(name[1:]) + 1 if name[1:] in DAEMON else 0
                if rank and s.dead and 'closed' not in name:
                    return fail(s, 'gone: a dead cache delivers or takes answers', name)
                if best is None or rank < best[0]:
                    best = rank, t
            if relation:
                w.before = s.reads
                note_relation(result.relation, s, w, t)
            what = broken_step(s, name, w, t)
            if what:
                return fail(s, what, name)
            if t not in came:
                came[t] = s, name
                what = broken_rule(t, w)
                if what:
                    return fail(t, what)
                if limit and len(came) > limit:
                    return fail(t, f'more than {limit} states')
                queue.append(t)
        if best:
            helpers[s] = best[1]
    stuck, what = follow_helpers(result, came, helpers)
    if what:
        return fail(stuck, what)
    return result
