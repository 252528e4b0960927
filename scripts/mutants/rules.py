# SPDX-License-Identifier: GPL-2.0-only
"""The rules that systematic mutants are made by.

A rule is a generator of changes of one function. A change is a list of replacements
(start, end, text), which together make one mutant. The docstring of a rule is its line in
the help.
"""

import re

from source import closing

RULES = {}
# What only a sanitizer may notice: where to look for it if the stock kernel shows nothing.
SANITIZED = {'drop-lock': 'kcsan', 'drop-barrier': 'kcsan', 'drop-get': 'debug',
             'drop-put': 'debug', 'drop-list': 'debug', 'drop-state': 'debug'}

LOCK = r'(?:raw_)?(?:spin|mutex|read|write)_(?:un)?lock(?:_(?:irq\w*|bh|interruptible))?|' \
       r'down_\w+|up_\w+|srcu_\w+lock'
GET = r'refcount_inc|\w+_get(?:_locked)?|get_\w+|dget|mntget|fscache_count_object'
PUT = r'\w+_put|put_\w+|fput|dput|mntput|kfree|kvfree|\w+_free|(?!smp_)\w+_release|free_\w+|' \
      r'fscache_uncount_object|iput|xa_destroy|destroy_workqueue'
LIST = r'list_\w+|rb_\w+|xa_erase|\w+_queue_update|\w+_rotate_locked|\w+_unlink_locked|hlist_\w+'
WAKE = r'\w*wake\w*|complete\w*|queue_work|mod_delayed_work|queue_delayed_work|schedule_\w+'
STATE = r'\w+_set_state\w*|set_bit|clear_bit|WRITE_ONCE|\w+_set_reader_locked|smp_store_release'
# Nothing of it can be seen from outside, or it is no statement.
NOISE = r'pr_\w+|trace_\w+|WARN\w*|lockdep_\w+|might_sleep\w*|if|for|while|switch|return|sizeof|' \
        r'guard|scoped_guard|with_\w+|INIT_\w+|cond_resched|seq_printf|mutex_destroy|LIST_HEAD|' \
        r'fscache_count_\w+|list_for_each\w*|memset|spin_lock_init|destroy_work_on_stack|' \
        r'cachefiles_delay\w*|smp_mb\w*|BUILD_BUG_ON|DEFINE_\w+|module_\w+|MODULE_\w+'
KINDS = (LOCK, GET, PUT, LIST, WAKE, STATE, NOISE)

OTHER_ERROR = {'EIO': 'ENOMEM', 'ENOMEM': 'EIO'}


def rule(function):
    RULES[function.__name__.replace('_', '-')] = function
    return function


def calls(function, names):
    """Statements that are nothing but a call of one of these names."""
    for s in function.statements:
        m = re.match(r'(\w+)\(.*\);$', s.code)
        if m and re.fullmatch(names, m.group(1)):
            yield s


def dropped(statements):
    for s in statements:
        yield [(s.start, s.end, ';')]


def swapped(function, pairs, left=r'\b', right=r'(?=\()'):
    """One name for another, in both directions."""
    yield from renamed(function, pairs | {b: a for a, b in pairs.items()}, left, right)


def renamed(function, both, left=r'\b', right=r'(?=\()'):
    names = '|'.join(re.escape(n) for n in sorted(both, key=len, reverse=True))
    for start, end, m in function.find(f'{left}({names}){right}'):
        yield [(start + m.start(1) - m.start(), start + m.end(1) - m.start(), both[m.group(1)])]


def conditions(function):
    """The conditions of if and while, without their parentheses."""
    for start, end, _ in function.find(r'\b(?:if|while) \('):
        stop = closing(function.body, end - 1 - function.start) + function.start
        yield end, stop - 1


def condition_text(function, span):
    return function.body[span[0] - function.start:span[1] - function.start]


@rule
def drop_lock(function):
    """a lock is not taken"""
    for s in function.statements:
        if re.match(r'guard\(\w+\)\(', s.code):
            yield [(s.start, s.end, ';')]
    for start, end, _ in function.find(r'\bscoped_guard\('):
        stop = closing(function.body, end - 1 - function.start) + function.start
        yield [(start, stop, 'if (true)')]
    pairs = {}
    for s in calls(function, LOCK):
        pairs.setdefault(s.code[s.code.index('('):], []).append(s)
    for locks in pairs.values():
        yield [(s.start, s.end, ';') for s in locks]


@rule
def drop_get(function):
    """a reference is not taken"""
    yield from dropped(calls(function, GET))
    for start, end, m in function.find(r'\b(get_file|get_pid|dget|mntget)(?=\()(?!\([^()]*\);)'):
        yield [(start, end, '')]


@rule
def drop_put(function):
    """a reference is not dropped, memory not freed"""
    yield from dropped(calls(function, PUT))


@rule
def drop_list(function):
    """something is not queued, or not taken off"""
    yield from dropped(calls(function, LIST))


@rule
def list_order(function):
    """the wrong end of a list"""
    yield from swapped(function, {'list_add': 'list_add_tail', 'list_move': 'list_move_tail',
                                  'list_splice_init': 'list_splice_tail_init'})


@rule
def drop_wake(function):
    """nobody is woken, no work queued"""
    yield from dropped(calls(function, WAKE))


@rule
def drop_state(function):
    """a change of state is left out"""
    yield from dropped(calls(function, STATE))
    for s in function.statements:
        if re.match(r'[\w\->.]+->[\w.]+ = (?:true|false|NULL|CACHEFILES_\w+);$', s.code):
            yield [(s.start, s.end, ';')]


@rule
def drop_assign(function):
    """an assignment is left out"""
    for s in function.statements:
        m = re.match(r'(\*?[\w\->.\[\]*()]+?) ?(?:[-+|&]?= (.*)|\+\+|--);$', s.code)
        if m and re.search(r'->|\.|\*|\+=|-=|\|=|\+\+|--', s.code) and \
           not re.fullmatch(r'true|false|NULL|CACHEFILES_\w+', m.group(2) or ''):
            yield [(s.start, s.end, ';')]


@rule
def drop_call(function):
    """a call is left out"""
    for s in calls(function, r'\w+'):
        name = s.code[:s.code.index('(')]
        if not any(re.fullmatch(kind, name) for kind in KINDS):
            yield [(s.start, s.end, ';')]


@rule
def negate_if(function):
    """a condition is negated"""
    for span in conditions(function):
        yield [(span[0], span[0], '!('), (span[1], span[1], ')')]


@rule
def skip_if(function):
    """a check is left out"""
    for start, end, _ in function.find(r'\bif \('):
        stop = closing(function.body, end - 1 - function.start) + function.start
        yield [(end, end, 'false && ('), (stop - 1, stop - 1, ')')]


@rule
def and_or(function):
    """&& for ||"""
    yield from swapped(function, {'&&': '||'}, '', '')


@rule
def equality(function):
    """== for !="""
    for start, end, m in function.find(r' ([=!]=) '):
        yield [(start + 1, end - 1, '!=' if m.group(1) == '==' else '==')]


@rule
def relational(function):
    """< for <=, > for >="""
    for start, end, m in function.find(r' ([<>]=?) '):
        op = m.group(1)
        yield [(start + 1, end - 1, op[0] if len(op) == 2 else op + '=')]


@rule
def rounding(function):
    """up for down"""
    yield from swapped(function, {'round_up': 'round_down', 'roundup': 'rounddown'})


@rule
def minmax(function):
    """min for max"""
    yield from swapped(function, {'min': 'max', 'min_t': 'max_t'})


@rule
def arith(function):
    """+ for -"""
    for start, end, m in function.find(r'[\w)\]] ([-+]) (?=[\w(])'):
        yield [(end - 2, end - 1, '-' if m.group(1) == '+' else '+')]


@rule
def off_by_one(function):
    """a length or position is one too large"""
    for s in function.statements:
        m = re.match(r'(?:loff_t |size_t |u\d+ )?\*?[\w\->.]*(?:len|size|end|pos|off|count|nr|'
                     r'total|max|want|hole|data)\w* = ([^,]*);$', s.code)
        if m and m.group(1) != 'NULL':
            yield [(s.end - 1, s.end - 1, ' + 1')]


@rule
def errno(function):
    """another error"""
    for start, end, m in function.find(r'(?<=[ (]-)(E[A-Z]+)\b'):
        if not re.match(r'\s*(?:[&|:]|\)\s*[^;])', function.body[end - function.start:]):
            yield [(start, end, OTHER_ERROR.get(m.group(1), 'EIO'))]


@rule
def flip_bool(function):
    """true for false"""
    for start, end, m in function.find(r'(?:return |= |, )(true|false)(?=[;)])'):
        yield [(end - len(m.group(1)), end, 'false' if m.group(1) == 'true' else 'true')]


@rule
def drop_return(function):
    """goes on where it should return, jump or break"""
    for s in function.statements:
        if re.match(r'(?:return|goto|break|continue)\b', s.code) and not function.is_last(s):
            yield [(s.start, s.end, ';')]


@rule
def drop_barrier(function):
    """a memory barrier is left out"""
    yield from dropped(calls(function, r'smp_mb\w*|smp_wmb|smp_rmb'))
    yield from renamed(function, {'atomic_read_acquire(': 'atomic_read(',
                                  'smp_load_acquire(&': 'READ_ONCE(',
                                  'smp_store_release(&': 'WRITE_ONCE('}, right='')
