"""Lets each call of each kind fail in turn and prints what happened.

    PYTHON faults_walk.py MODE PHASE DIRECTORY

PYTHON is the interpreter that relink.build() links, started with profiling
off.  For each case a child is forked.  It does what comes before the phase,
plays the phase with the fault, and runs a program whose result is known.  Then
it activates profiling without a fault and runs the program again.  One line of
JSON says what the child has seen.  test_faults.py judges it.
"""

import gc
import json
import os
import resource
import sys
import time
import types

import _perf_faults
import _testinternalcapi

from test.test_perf import jitdump, parsers, relink

# The content of a file that another process has left.
OLD = b'old'

# Older files belong to other processes that had the same pid.
BEGIN = time.time() - 1

STATUS = 7
INNER_STATUS = 5


def path_of(mode):
    return {'perf': '/tmp/perf-{}.map',
            'perf_jit': '/tmp/jit-{}.dump'}[mode].format(os.getpid())


# ---------------------------------------------------------------------------
# The program

def plain(value):
    return value + 1


def nested(depth):
    return nested(depth - 1) + 1 if depth else 0


def generator(count):
    for i in range(count):
        yield i


def caller(function, *args):
    return function(*args)


class Program:
    """Calls new functions that have these names."""

    RESULT = [2, 3, 4, [3, 2, 1], [0, 1, 2], 50, 'caught']

    def __init__(self, prefix):
        self.prefix = prefix
        self.names = []
        self.functions = []

    def new(self, function, name):
        self.names.append(self.prefix + name)
        self.functions.append(types.FunctionType(
            function.__code__.replace(co_qualname=self.names[-1]),
            function.__globals__))
        return self.functions[-1]

    def run(self):
        def failing():
            raise KeyError(1)

        result = [self.new(plain, 'plain')(1),
                  self.new(plain, 'ümlaut')(2),
                  self.new(plain, 'long' * 300)(3),
                  sorted([1, 2, 3], key=self.new(lambda n: -n, 'callback')),
                  list(self.new(generator, 'generator')(3)),
                  self.new(caller, 'caller')(nested, 50)]
        try:
            self.new(failing, 'failing')()
        except KeyError:
            result.append('caught')
        return result

    def run_again(self):
        """Call the same functions again."""
        *functions, failing = self.functions
        arguments = [(1,), (2,), (3,), (1,), (3,), (nested, 50)]
        for function, argument in zip(functions, arguments, strict=True):
            function(*argument)
        list(functions[4](3))           # a generator runs when it is asked
        try:
            failing()
        except KeyError:
            pass


# ---------------------------------------------------------------------------
# What a process sees

def descriptors():
    return len(os.listdir('/proc/self/fd'))


def read(path):
    try:
        with open(path, 'rb') as file:
            if os.fstat(file.fileno()).st_mtime < BEGIN:
                return b''
            return file.read()
    except FileNotFoundError:
        return b''


def faults_of_file(mode, data, names):
    """Return what is wrong with a file that should have these names."""
    if data == OLD:
        return 'old, all missing'
    try:
        if mode == 'perf':
            entries = parsers.parse_map(data)
            found = [entry.name for entry in entries]
            if parsers.overlapping(entries):
                return 'entries overlap'
        else:
            dump = jitdump.parse(data)
            found = [f.load.name for f in dump.functions()]
            if dump.incomplete:
                return f'{dump.incomplete} bytes are incomplete'
    except ValueError as error:
        return str(error)
    found = [name.split(':')[2] for name in found]
    missing = set(names) - set(found)
    return f'{sorted(missing)} missing' if missing else ''


class Process:
    """Plays one phase and reports."""

    def __init__(self, mode, report, faults):
        self.mode = mode
        self.report = report        # the path
        self.faults = faults
        self.seen = {'exception': '', 'descriptors': descriptors()}
        self.names = []             # that the file must have
        self.programs = []          # that have run
        self.inner = False
        self.lines = False

    def arm(self):
        for fault in self.faults:
            _perf_faults.arm(*fault)

    def activate(self, mode=None):
        sys.activate_stack_trampoline(mode or self.mode, lines=self.lines)

    def activate_with_fault(self):
        self.arm()
        try:
            self.activate()
        except RuntimeError as error:
            self.seen['exception'] = str(error)

    def program(self, prefix='first '):
        program = Program(prefix)
        result = program.run()
        self.names += program.names
        self.programs.append(program)
        return result

    def finish(self):
        """Run the program, end the faults, activate again, and run a new
        program.

        Then call once more all functions that were called before.
        """
        seen = self.seen
        seen['result'] = self.program() == Program.RESULT
        seen['active'] = sys.is_stack_trampoline_active()
        seen['calls'] = _perf_faults.reset()
        first = read(path_of(self.mode)), list(self.names)
        try:
            self.activate()
        except RuntimeError as error:
            seen['again_exception'] = str(error)
        self.names.clear()
        before = list(self.programs)
        seen['again_result'] = self.program('again ') == Program.RESULT
        for program in before:
            program.run_again()
            self.names += program.names
        seen['again_active'] = sys.is_stack_trampoline_active()
        sys.deactivate_stack_trampoline()
        again = read(path_of(self.mode)), self.names
        seen['file'] = faults_of_file(self.mode, *first)
        seen['again_file'] = faults_of_file(self.mode, *again)
        seen['balance'] = [*_perf_faults.balance(), descriptors()]
        seen['leaks'] = _perf_faults.leaks()
        with open(self.report, 'w') as file:
            json.dump(seen, file)

    # -- The phases; the name is that of the method

    def at_activation(self):
        self.activate_with_fault()
        self.finish()

    def at_first_calls(self):
        self.activate()
        self.arm()
        self.finish()

    def at_activation_with_lines(self):
        self.lines = True
        self.activate_with_fault()
        self.finish()

    def at_fork_with_lines(self):
        self.lines = True
        self.at_fork()

    def in_a_full_arena(self):
        # With a limit on address space each arena is mapped by itself.
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2**46, limits[1]))
        self.activate()
        # The first two arenas have 766 wide slots, or on x86-64 760 narrow ones.
        slots = 766 if self.mode == 'perf_jit' else 760
        functions = [types.FunctionType(plain.__code__.replace(), {})
                     for i in range(slots - 11)]
        for function in functions:
            function(1)
        self.arm()
        self.program('zeroth ')
        self.finish()

    def when_descriptors_are_closed(self):
        self.activate()
        self.program('zeroth ')
        self.arm()
        os.closerange(3, 70_000)
        self.finish()

    def when_the_file_is_gone(self):
        self.activate()
        self.program('zeroth ')
        self.names.clear()
        path = path_of(self.mode)
        self.arm()
        os.unlink(path)
        os.closerange(3, 70_000)
        self.finish()

    def when_an_old_file_is_there(self):
        with open(path_of(self.mode), 'wb') as file:
            file.write(OLD)
        self.activate_with_fault()
        self.finish()

    def at_another_activation(self):
        self.activate()
        self.program('zeroth ')
        sys.deactivate_stack_trampoline()
        self.activate_with_fault()
        self.finish()

    def when_the_mode_changes(self):
        self.activate('perf' if self.mode == 'perf_jit' else 'perf_jit')
        self.program('zeroth ')
        self.names.clear()
        self.activate_with_fault()
        self.finish()

    def when_switched_off(self):
        self.activate()
        self.program('zeroth ')
        self.arm()
        sys.deactivate_stack_trampoline()
        self.activate()
        self.finish()

    def at_fork(self, persist=False, **how):
        _testinternalcapi.perf_trampoline_set_persist_after_fork(persist)
        self.activate()
        self.announce_handlers()
        before = Program('zeroth ')
        before.run()
        outer = Program('outer ')
        self.names += before.names
        outer.new(self.call_fork, 'fork')(self, persist, how)

    def announce_handlers(self):
        """Fork once without faults: the handlers that fork calls, such as those of
        logging, are new functions, too.
        """
        if os.fork() == 0:
            os.unlink(path_of(self.mode))
            os._exit(0)
        os.wait()

    def call_fork(self, persist, how):
        self.fork(persist, **how)

    def fork(self, persist, fork=os.fork, path=None):
        """Fork with faults.  With `path`, which is no program, the faults begin
        when the child tries to execute that.
        """
        if not path:
            self.arm()
        child = fork()
        if not child:
            if path:
                # No Python function is called before.
                for fault in self.faults:
                    _perf_faults.arm(*fault)
                try:
                    os.execv(path, ['program'])
                except OSError:
                    pass
            self.inner = True
            self.report += '.inner'
            if not persist:
                self.names.clear()
            self.names.append('outer fork')
            self.finish()
            os._exit(INNER_STATUS)
        self.seen['inner_status'] = os.waitstatus_to_exitcode(
            os.waitpid(child, 0)[1])
        self.seen['inner_pid'] = child
        self.finish()

    def at_fork_with_persist(self):
        self.at_fork(persist=True)

    def at_fork_by_c_code(self):
        import ctypes
        self.at_fork(fork=ctypes.PyDLL(None).fork)

    def at_fork_by_c_code_with_persist(self):
        import ctypes
        self.at_fork(persist=True, fork=ctypes.PyDLL(None).fork)

    def when_a_program_cannot_be_executed(self):
        path = os.path.join(os.path.dirname(self.report), 'no_program')
        with open(path, 'wb') as file:
            file.write(b'\0')
        os.chmod(path, 0o700)
        self.at_fork(path=path)

    def at_exit(self):
        self.activate()
        self.finish()
        self.activate()
        self.program('last ')
        self.arm()
        sys.exit(STATUS)


PHASES = [name for name in vars(Process)
          if name.startswith(('at_', 'in_', 'when_'))]


# ---------------------------------------------------------------------------

def play(phase, mode, faults, directory):
    """Play the phase in a child with these faults. Return what it saw."""
    report = os.path.join(directory, 'report')
    errors = os.path.join(directory, 'errors')
    for path in (report, report + '.inner', errors):
        if os.path.exists(path):
            os.unlink(path)

    _perf_faults.hits()
    child = os.fork()
    if not child:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        for mode_of_file in ('perf', 'perf_jit'):
            if os.path.exists(path_of(mode_of_file)):
                os.unlink(path_of(mode_of_file))
        getattr(Process(mode, report, faults), phase)()
        os._exit(STATUS)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = {'phase': phase, 'mode': mode, 'faults': faults,
            'hits': _perf_faults.hits(), 'status': status,
            'errors': read(errors).decode(errors='replace'),
            'processes': []}
    for path in (report, report + '.inner'):
        if data := read(path):
            seen['processes'].append(json.loads(data))
    pids = [child, *(p['inner_pid'] for p in seen['processes']
                     if 'inner_pid' in p)]
    for pid in pids:
        for path in (f'/tmp/perf-{pid}.map', f'/tmp/jit-{pid}.dump'):
            if os.path.exists(path):
                os.unlink(path)
    return seen


def walk(phase, mode, faults, directory):
    """Let the first of these calls fail at each of its turns."""
    (kind, number, forever), *others = faults
    turn = 0
    hits = True
    while hits:
        turn += 1
        seen = play(phase, mode, [
            (kind, turn, number, forever),
            *((kind, 1, number, True) for kind, number in others)], directory)
        hits = seen['hits'][kind]
        print(json.dumps(seen), flush=True)


def main(mode, phase, directory):
    # A collection in a child would write to each object of the parent, and so copy each
    # page.  That would take most of the time.
    gc.freeze()
    print(json.dumps(play(phase, mode, [], directory)), flush=True)
    for fault in relink.FAULTS + relink.ONCE:
        walk(phase, mode, [(*fault, False)], directory)
    for fault in relink.FAULTS:
        walk(phase, mode, [(*fault, True)], directory)
    for first, *others in relink.TOGETHER:
        walk(phase, mode, [(*first, False), *others], directory)


if __name__ == '__main__':
    main(*sys.argv[1:])
