# SPDX-License-Identifier: GPL-2.0-only
"""
The on-demand protocol of one object, as a state and the steps that change it.

What is modelled is fs/cachefiles as it is built. A step is a section under queue->lock,
or what a party does between two of them, and carries the name of the function that it
stands for; what it changes, it changes in the same order. Moves of the od and of
requests are noted as the tracepoints note them.

Abstractions, all of which allow more than the code does: ids and object_ids are never
used again, so that instead of their values it is enough to know whether an opening is
the current one; requests are in no order; a restore takes any of what is SENT, as if
readers were as many as it takes; what a look at the backing file finds is open.
"""
from collections import namedtuple

OD_MOVES = {
    'CLOSED': ('OPENING', 'REOPENING', 'DROPPING'),
    'OPENING': ('OPEN', 'CLOSED', 'DROPPING'),
    'OPEN': ('CLOSED', 'DROPPING'),
    'REOPENING': ('OPEN', 'CLOSED', 'DROPPING'),
    'DROPPING': (),
}

REQ_MOVES = {
    'IDLE': ('BLOCKED', 'FOLLOWING', 'QUEUED'),
    'BLOCKED': ('IDLE', 'DONE'),
    'FOLLOWING': ('IDLE', 'DONE'),
    'QUEUED': ('COPYING', 'DONE'),
    'COPYING': ('QUEUED', 'SENT', 'DONE'),
    'SENT': ('QUEUED', 'ATTACHING', 'DONE'),
    'ATTACHING': ('SENT', 'DONE'),
    'DONE': ('IDLE',),
}

# Where a read is. Lower case: one that was cancelled, or that is COPYING or SENT for an
# opening that is no longer the current one. '-' is none, 'X' one that ends in the step.
READ = {
    '-': 'IDLE',
    'I': 'IDLE', 'i': 'IDLE',           # to be admitted
    'L': 'IDLE', 'l': 'IDLE',           # looks at the backing file
    'D': 'DONE', 'd': 'DONE',           # its READ was answered; to be admitted
    'K': 'IDLE', 'k': 'IDLE',           # looks for what was brought
    'B': 'BLOCKED', 'F': 'FOLLOWING', 'Q': 'QUEUED',
    'C': 'COPYING', 'c': 'COPYING', 'S': 'SENT', 's': 'SENT',
    'X': 'DONE',
}
UNDER_WAY = 'QCcSs'

# od: its state. att, want, untold, awaited, armed (the reaper), ready (on the list) and
# dead (the queue): as in the code. anon: there is a current descriptor. stale: there is
# another one. open, close: states of these requests. obj: new, live, going (dropped,
# waiting for copen), gone. cop: the thread in copen: '.', 'accepted' or 'attaching'. taken:
# somebody has taken over meanwhile.
# ids: how many are reserved. reads: for each range of the file the reads of it, of
# which one at a time is under way; sorted. threads: of the daemon: '.', 'A' reserves
# an id, 'O', 'X' and '0', '1', ... copy OPEN, CLOSE and the READ of that range, 'g'
# copies a READ that is gone.
State = namedtuple('State', 'od att want untold awaited dead armed ready anon stale open close '
                            'obj cop taken ids reads threads')


def initial(ranges, threads):
    """@ranges: for each range of the file how many reads of it there may be at once."""
    return State('CLOSED', 0, 0, 0, 0, 0, 0, 0, 0, 0, 'IDLE', 'IDLE', 'new', '.', 0, 0,
                 tuple('-' * n for n in ranges), '.' * threads)


class Broken(Exception):
    """A rule that the code itself checks, or memory that is not there."""


class World:
    """A state while a step is going on."""

    def __init__(self, s, bug):
        (self.od, self.att, self.want, self.untold, self.awaited, self.dead, self.armed,
         self.ready, self.anon, self.stale, self.open, self.close, self.obj, self.cop,
         self.taken, self.ids, reads, threads) = s
        self.reads = [list(r) for r in reads]
        self.threads = list(threads)
        self.bug = bug
        self.events = []
        self.woken = False

    def freeze(self):
        return State(self.od, self.att, self.want, self.untold, self.awaited, self.dead,
                     self.armed, self.ready, self.anon, self.stale, self.open, self.close,
                     self.obj, self.cop, self.taken, self.ids,
                     tuple(''.join(sorted(r)) for r in self.reads), ''.join(sorted(self.threads)))

    # --- what everything goes through ---

    def note(self, kind, slot, old, new):
        self.events.append((kind, slot, old, new, self.od, self.anon, self.att, self.dead))

    def set_od(self, new):
        if new not in OD_MOVES[self.od]:
            raise Broken(f'od {self.od} -> {new}')
        if new == 'CLOSED' and self.anon:
            raise Broken('CLOSED with a current descriptor')
        if new == 'OPEN' and not (self.anon and self.att):
            raise Broken('OPEN without descriptor or file')
        self.note('OD', None, self.od, new)
        self.od = new

    def move(self, kind, slot, old, new):
        if new not in REQ_MOVES[old]:
            raise Broken(f'{kind} {old} -> {new}')
        self.note(kind, slot, old, new)

    def set_open(self, new):
        self.move('OPEN', None, self.open, new)
        self.open = new

    def set_close(self, new):
        self.move('CLOSE', None, self.close, new)
        self.close = new

    def set_read(self, r, i, new):
        old = self.reads[r][i]
        if READ[old] != READ[new]:
            self.move('READ', (r, i), READ[old], READ[new])
        self.reads[r][i] = '-' if new == 'X' else new

    def slots(self, which):
        return [(r, i) for r, reads in enumerate(self.reads)
                for i, x in enumerate(reads) if x in which]

    def lose_anon(self, alive):
        """The descriptor is no longer the current one."""
        if self.anon:
            self.anon = 0
            self.stale |= alive
            for r, i in self.slots('CS'):
                self.reads[r][i] = self.reads[r][i].lower()

    def deliverable(self):
        if self.dead:
            return 0
        if self.od == 'CLOSED':
            return int(self.want or bool(self.slots('BQ')))
        if self.od in ('OPENING', 'REOPENING'):
            return int(self.open == 'QUEUED')
        if self.od == 'OPEN':
            return int(bool(self.slots('Q')))
        return int(self.close == 'QUEUED')

    def update(self):
        self.ready = self.deliverable()

    def wake(self):
        self.woken = True

    def arm_reaper(self):
        self.armed = 1

    # --- how requests end ---

    def finish_open(self):
        if self.open in ('IDLE', 'DONE'):
            return
        self.ids -= 1
        self.taken = 0
        self.set_open('DONE')

    def finish_close(self):
        if self.close not in ('IDLE', 'DONE'):
            self.set_close('DONE')

    def finish_read(self, r, i, ok):
        if self.reads[r][i] in UNDER_WAY:
            self.ids -= 1
            for j, x in enumerate(self.reads[r]):
                if x == 'F' and 'followers-forgotten' not in self.bug:
                    self.set_read(r, j, 'I' if ok else 'X')
        if self.reads[r][i] in 'Cc':
            self.threads[self.threads.index(str(r))] = 'g'
        self.set_read(r, i, 'D' if ok else 'X')

    def end_reads(self):
        which = 'SsQCc' if 'blocked-forgotten' in self.bug else 'SsQCcB'
        for r, i in self.slots(which):
            self.finish_read(r, i, False)

    def requeue(self, which):
        if 'no-requeue' in self.bug:
            return
        for r, i in which:
            self.set_read(r, i, 'Q')

    def copen_failed(self):
        if not self.att and not self.awaited:
            self.untold = 1
        self.finish_open()
        self.lose_anon(1)
        self.set_od('CLOSED')
        if 'refusal-keeps-reads' not in self.bug:
            self.end_reads()
        self.update()

    def requeue_open(self):
        self.set_open('QUEUED')
        if 'restore-keeps-descriptor' not in self.bug:
            self.lose_anon(1)

    def unblock(self):
        for r, i in self.slots('B'):
            self.set_read(r, i, 'I')


# Each of what follows is a party. It yields (name, function) for each step that it may
# make in state @s; the function carries it out on a World. A name that begins with '+'
# helps: a daemon that is alive and does what it is asked takes it, and so does the kernel.

def netfs(s):
    def want(w):
        w.want = 1
        w.update()
        w.wake()
        w.obj = 'live'

    def cancel(w):
        for r, i in w.slots('ILDK'):
            w.reads[r][i] = w.reads[r][i].lower()
        w.end_reads()
        w.update()

    def drop(w):
        w.end_reads()
        if 'drop-keeps-open' not in w.bug:
            w.finish_open()
        w.obj = 'going'
        w.set_od('DROPPING')
        if (w.anon and not w.dead) or 'close-without-descriptor' in w.bug:
            w.set_close('QUEUED')
        w.armed = 0
        w.update()
        w.wake()

    if s.obj == 'new':
        yield '+want', want
    if s.obj == 'live':
        for r, reads in enumerate(s.reads):
            if '-' in reads:
                yield 'read begins', lambda w, r=r: w.set_read(r, w.reads[r].index('-'), 'I')
        yield 'cancel', cancel
        # FS-Cache waits for every read before it lets go of an object.
        if not any(x.strip('-') for x in s.reads):
            yield 'drop', drop


def netfs_drop(s, bug):
    if s.obj == 'going' and (s.cop != 'attaching' or 'drop-does-not-wait' in bug):
        def gone(w):
            w.obj = 'gone'
        yield '+drop has waited', gone


def admit(w, r, i):
    x = w.reads[r][i]
    served = x in 'Dd'
    if served:
        w.move('READ', (r, i), 'DONE', 'IDLE')
    if x in 'id' or w.od == 'DROPPING':
        w.reads[r][i] = '-'
    elif w.att:
        w.reads[r][i] = 'K' if served else 'L'
    elif w.dead:
        w.reads[r][i] = '-'
    elif w.untold:
        w.untold = 0
        w.reads[r][i] = '-'
    else:
        if 'reaper-not-armed' not in w.bug:
            w.arm_reaper()
        w.awaited = 1
        w.reads[r][i] = 'I'
        w.set_read(r, i, 'B')
        w.update()
        w.wake()


def fetch(w, r, i):
    x = w.reads[r][i]
    if x in 'lk' and 'cancel-forgets-lookers' not in w.bug:
        w.reads[r][i] = '-'
    elif w.dead or w.od == 'DROPPING':
        w.reads[r][i] = '-'
    elif any(y in UNDER_WAY for y in w.reads[r]):
        w.arm_reaper()
        w.ids += 'follower-keeps-id' in w.bug
        w.set_read(r, i, 'F')
    else:
        w.arm_reaper()
        w.ids += 1
        w.set_read(r, i, 'Q')
        w.update()
        if 'fetch-does-not-wake' not in w.bug:
            w.wake()


def readers(s):
    def at(step, r, x):
        return lambda w: step(w, r, w.reads[r].index(x))

    def end(w, r, i):
        w.reads[r][i] = '-'

    for r, reads in enumerate(s.reads):
        for x in sorted(set(reads)):
            if x in 'IiDd':
                yield '+admit', at(admit, r, x)
            elif x in 'Ll':
                yield '+look: hole', at(fetch, r, x)
                yield 'look: data', at(end, r, x)
            elif x in 'Kk':
                # Data, or nothing was brought; or it is being written again.
                yield '+look: brought', at(end, r, x)
                yield 'look: being filled', at(fetch, r, x)


def reaper(s):
    def rearm(w):
        w.update()
        w.armed = int(bool(w.slots('QCcSsB'))) if 'reaper-not-rearmed' not in w.bug else 0

    def reap(w, r, x):
        i = w.reads[r].index(x)
        if x in UNDER_WAY:
            for j, y in enumerate(w.reads[r]):
                if y == 'F':
                    w.set_read(r, j, 'I')
        w.finish_read(r, i, False)
        rearm(w)

    if not s.armed:
        return
    yield 'reaper', rearm
    for r, reads in enumerate(s.reads):
        for x in sorted(set(reads)):
            if x in 'BF' + UNDER_WAY:
                yield 'reader killed', lambda w, r=r, x=x: reap(w, r, x)


def pick(w):
    """Take up the next request; returns what a thread copies."""
    if w.od == 'OPEN':
        r = w.pick_range
        if not w.anon:
            raise Broken('READ picked without a descriptor')
        w.set_read(r, w.reads[r].index('Q'), 'C')
        what = str(r)
    elif w.od == 'DROPPING':
        if not w.anon:
            raise Broken('CLOSE picked without a descriptor')
        w.set_close('COPYING')
        what = 'X'
    else:
        w.set_open('COPYING')
        what = 'O'
    w.update()
    return what


def daemon_read(s):
    def swap(w, old, new):
        w.threads[w.threads.index(old)] = new

    def arm(w):
        w.ids += 1
        swap(w, '.', 'A')

    def armed(w):
        if (w.od != 'CLOSED' or not w.ready) and 'arm-does-not-recheck' not in w.bug:
            w.ids -= 1
            swap(w, 'A', '.')
            return
        if w.open == 'DONE':
            w.set_open('IDLE')
        w.want = 0
        w.awaited = int(bool(w.slots('B')))
        w.set_open('QUEUED')
        w.set_od('REOPENING' if w.att else 'OPENING')
        swap(w, 'A', pick(w))

    def picked(w, r=None):
        w.pick_range = r
        swap(w, '.', pick(w))

    if '.' in s.threads and s.ready:
        if s.od == 'CLOSED':
            yield '+arm', arm
        elif s.od == 'OPEN':
            for r, reads in enumerate(s.reads):
                if 'Q' in reads:
                    yield '+pick READ', lambda w, r=r: picked(w, r)
        else:
            yield '+pick', picked
    if 'A' in s.threads:
        yield '+armed', armed
    for what in sorted(set(s.threads) - {'.', 'A'}):
        yield '+commit', lambda w, what=what: commit(w, what, False)
        yield 'fault', lambda w, what=what: commit(w, what, True)


def commit(w, what, fault):
    w.threads[w.threads.index(what)] = '.'
    if what == 'g':
        return
    if what == 'O':
        if w.open != 'COPYING':
            return
        if fault:
            if 'fault-loses-request' in w.bug:
                return
            w.set_open('QUEUED')
        else:
            if w.anon:
                raise Broken('OPEN committed over a current descriptor')
            w.anon = 1
            w.set_open('SENT')
    elif what == 'X':
        if w.close != 'COPYING':
            return
        if not fault:
            w.set_close('DONE')
            return
        w.set_close('QUEUED')
    else:
        r = int(what)
        i = next((i for i, x in enumerate(w.reads[r]) if x in 'Cc'), None)
        if i is None:
            raise Broken('a READ is copied that is not COPYING')
        current = w.reads[r][i] == 'C' or 'no-generation-check' in w.bug
        if fault or not current:
            fault = True
            w.set_read(r, i, 'Q')
        else:
            w.set_read(r, i, 'S' if w.reads[r][i] == 'C' else 's')
    w.update()
    if fault:
        w.wake()


def answers(s, bug):
    def refuse(w):
        w.copen_failed()

    def accept(w):
        if not w.anon:
            w.copen_failed()
        else:
            w.set_open('ATTACHING')
            w.cop = 'accepted'

    def attach(w):
        w.cop = 'attaching' if w.open == 'ATTACHING' or 'attach-unchecked' in bug else '.'

    def settle(w, how):
        w.cop = '.'
        if w.open != 'ATTACHING' and 'settle-does-not-recheck' not in bug:
            return
        if how == 'killed':
            if 'killed-copen-stays' not in bug:
                w.set_open('SENT')
            if w.taken and 'taken-over-in-vain' not in bug:
                w.taken = 0
                w.requeue_open()
                w.update()
                w.wake()
        elif how == 'failed':
            w.copen_failed()
        else:
            w.att = 1
            w.finish_open()
            w.set_od('OPEN' if w.anon else 'CLOSED')
            w.unblock()
            w.update()
            w.wake()

    def complete(w, r):
        w.finish_read(r, w.reads[r].index('S'), True)

    def mistaken(w):
        raise Broken('answer: it completes a READ that it was not meant for')

    if s.open == 'SENT' or (s.open == 'COPYING' and 'copen-at-any-time' in bug):
        yield 'copen: refused', refuse
        yield '+copen', accept
    if s.cop == 'accepted':
        yield '+attach', attach
    elif s.cop == 'attaching':
        yield '+attached', lambda w: settle(w, 'ok')
        if not s.att:
            yield 'attaching failed', lambda w: settle(w, 'failed')
            yield 'copen killed', lambda w: settle(w, 'killed')
    for r, reads in enumerate(s.reads):
        if s.anon and 'S' in reads:
            yield '+READ_COMPLETE', lambda w, r=r: complete(w, r)
        if s.stale and 'S' in reads and 'answer-through-any-fd' in bug:
            yield 'READ_COMPLETE through another fd', mistaken


def failover(s, bug):
    def closed(w):
        w.lose_anon(0)
        w.finish_close()
        if w.od == 'OPEN':
            w.set_od('CLOSED')
            w.requeue(w.slots('Ss'))
        if 'close-does-not-update' not in bug:
            w.update()
        w.wake()

    def stale_closed(w):
        w.stale = 0

    def restore(w, which):
        w.requeue(which)
        if not which:
            w.requeue_open()
        w.update()
        w.wake()

    def take_over(w):
        w.taken = 1

    if s.anon:
        # A daemon that is told so closes; any other may at any time.
        yield '+' * (s.close == 'DONE') + 'fd closed', closed
    if s.stale:
        yield '+stale fd closed', stale_closed
    if s.obj != 'live':
        return
    sent = [r for r, reads in enumerate(s.reads) if 'S' in reads or 's' in reads]
    for some in range(1, 1 << len(sent)):
        def of_others(w, some=some):
            restore(w, [(r, i) for r, i in w.slots('Ss')
                        if r in sent and some >> sent.index(r) & 1])
        yield 'restore', of_others
    if s.open == 'SENT':
        yield 'restore', lambda w: restore(w, [])
    if s.open == 'ATTACHING':
        yield 'restore', take_over


def shutdown(s):
    def die(w):
        w.dead = 1
        if w.obj == 'live':
            w.end_reads()
            w.finish_open()
            w.want = 0
            if w.od in ('OPENING', 'REOPENING'):
                w.lose_anon(1)
                w.set_od('CLOSED')
        if w.ready:
            w.finish_close()
            w.update()
        w.wake()

    if not s.dead:
        yield 'shutdown', die


def steps(s, bug):
    for party in (readers(s), answers(s, bug), daemon_read(s), netfs_drop(s, bug),
                  failover(s, bug), netfs(s), reaper(s), shutdown(s)):
        for name, act in party:
            w = World(s, bug)
            w.pick_range = None
            act(w)
            yield name, w


# What a planted mistake does to the code; "model.sh selftest" has each of them found.
BUGS = {
    'no-generation-check': 'commit does not ask whether the opening is still the current one',
    'no-requeue': 'READs that were handed out are not queued again when the fd is closed',
    'close-does-not-update': 'the ready list is not updated when the fd is closed',
    'arm-does-not-recheck': 'nothing is looked at again after the id of an OPEN was reserved',
    'restore-keeps-descriptor': 'the descriptor of an OPEN stays the current one in restore',
    'blocked-forgotten': 'reads that wait for the OPEN are not ended with the others',
    'refusal-keeps-reads': 'a refused OPEN ends no reads',
    'copen-at-any-time': 'copen is taken before its OPEN was delivered',
    'settle-does-not-recheck': 'copen does not see that its object has gone',
    'killed-copen-stays': 'a copen that is killed does not go back to SENT',
    'taken-over-in-vain': 'a copen that is killed does not see that restore has been written',
    'answer-through-any-fd': 'READ_COMPLETE does not ask which descriptor it came through',
    'fault-loses-request': 'an OPEN that could not be copied is not queued again',
    'followers-forgotten': 'reads that follow a READ are not told of its end',
    'fetch-does-not-wake': 'a READ is queued, and the daemon not woken',
    'reaper-not-armed': 'the reaper is not armed for a read that waits for the OPEN',
    'reaper-not-rearmed': 'the reaper runs once only',
    'drop-keeps-open': 'the OPEN of an object that goes is not ended',
    'close-without-descriptor': 'a CLOSE is queued though there is no descriptor',
    'follower-keeps-id': 'the id of a read that follows is not given back',
    'cancel-forgets-lookers': 'a read that is looking does not see that it was cancelled',
    'drop-does-not-wait': 'an object goes while copen attaches its file',
}
