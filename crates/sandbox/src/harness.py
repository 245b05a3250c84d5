# The harness: what the interpreter in the sandbox runs. It reads everything it needs from
# descriptor 3 and closes it, runs the program, then the tests, then computes the value, and says
# on descriptor 4 how far it came.
#
# Program and tests run in this very interpreter, so whatever the harness can do they could do as
# well, were it not for the keys: one random word for each thing that can be said, without which it
# does not count. "passed" has a key of its own, so nothing said before, and no failure, gives it
# away, wherever descriptor 4 has been led meanwhile. Keys and tests are read before the program
# runs and are held by closures that no local or global variable of any frame refers to while it
# runs: they wait on the value stack (see the last lines), which Python code cannot look at. The
# functions that would find them all the same are refused by an audit hook, which cannot be taken off.
#
# Not covered: reading the process's memory (ctypes, crafted bytecode), and tests that are
# themselves fooled, by an object that equals everything or by a changed library. From Python 3.13
# on the locals of a frame can be written, which gives a program that looks for the harness more to try.
def harness():
    import _signal, builtins, gc, posix, sys

    ORDERS, REPORT = 3, 4
    Module = type(sys)
    originals = type(type.__dict__)(dict(vars(builtins)))  # a view that cannot be written
    handlers = tuple((n, _signal.getsignal(n)) for n in range(1, 65))
    refused = frozenset((
        "gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames",
        "sys._current_exceptions", "sys.settrace", "sys.setprofile", "sys.addaudithook",
        "sys.monitoring.register_callback",
    ))

    def hook(event, arguments, refused=refused, error=RuntimeError):
        if event in refused:
            raise error("not available in the sandbox: " + event)

    def receive():
        """The next order: its length in ten digits, then its bytes."""
        field = bytearray()
        wanted = 10
        for of_length in (True, False):
            field.clear()
            while len(field) < wanted:
                piece = posix.read(ORDERS, min(wanted - len(field), 1 << 16))
                if not piece:
                    posix._exit(70)
                field += piece
            if of_length:
                wanted = int(field)
        return bytes(field)

    def begin(box, write=posix.write, stop=posix._exit, append=list.append):
        ready_key, loaded_key, failed_key, passed_key = receive(), receive(), receive(), receive()
        for path in receive().split(b"\0"):
            if path:
                sys.path.append(path.decode("utf-8", "surrogateescape"))
        module = Module("program")
        sys.modules["program"] = module
        names = vars(module)
        source, tests, value = receive(), receive(), receive()
        posix.close(ORDERS)

        # From here on only what has been taken hold of beforehand is used: nothing may run code of
        # the program, whose frame would then lie above this one and could look down.
        def say(message):
            while message:
                message = message[write(REPORT, message):]

        def loaded(ran):
            if ran[0] is not True:
                say(failed_key + b"program " + ran[1])
                stop(0)
            say(loaded_key + b"loaded  0000000000")
            append(box, (tests, "<tests>", names, "exec"))
            return tested

        def tested(ran):
            if ran[0] is not True:
                say(failed_key + b"tests   " + ran[1])
                stop(0)
            append(box, (value, "<value>", names, "eval"))
            return finish

        def finish(ran):
            if ran[0] is not True:
                say(failed_key + b"tests   " + ran[1])
                stop(0)
            say(passed_key + b"passed  " + ran[1])
            stop(0)

        say(ready_key + b"ready   0000000000")
        append(box, (source, "<program>", names, "exec"))
        sys.addaudithook(hook)
        return loaded

    def frame(fields, join=b"\0".join):
        """The body of a message: its length in ten digits, then fields with zero bytes between."""
        body = join([field.encode("utf-8", "backslashreplace").replace(b"\0", b"?") for field in fields])
        return b"%010d" % body.__len__() + body

    def describe(error, compiling, get=originals.__getitem__):
        """Class, type, text and line of an exception. Its `__str__` is code of the program."""
        is_a = get("isinstance")
        text = get("str")
        kind = get("type")(error)
        line = ""
        if compiling and is_a(error, get("SyntaxError")):
            name = "syntax"
            line = text(error.lineno or "")
        elif kind is get("NameError"):
            name = "name"
        else:
            name = "other"
            for base, title in (("AssertionError", "assertion"), ("RecursionError", "recursion"),
                                ("MemoryError", "memory"), ("SystemExit", "exit")):
                if is_a(error, get(base)):
                    name = title
        try:
            message = text(error.msg if name == "syntax" else error)[:2000]
        except get("BaseException"):
            message = "(its text could not be had)"
        step = error.__traceback__
        while step is not None:
            if step.tb_frame.f_code.co_filename in ("<program>", "<tests>", "<value>"):
                line = text(step.tb_lineno)
            step = step.tb_next
        return frame([name, text(kind.__name__)[:200], message, line])

    def settle(names=vars(builtins), originals=originals, handlers=handlers, signal=_signal.signal,
               setitimer=_signal.setitimer, timer=_signal.ITIMER_REAL, stop_collecting=gc.disable):
        """Takes back what would let the program's code run inside the harness (handlers, timers,
        the collector), and what it did to the builtins that the tests rely on."""
        names.clear()
        names.update(originals)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:
                pass
        stop_collecting()
        setitimer(timer, 0)
        for number, handler in handlers:
            try:
                signal(number, handler)
            except (OSError, ValueError, TypeError):
                pass

    def run(box, compile=compile, execute=exec, evaluate=eval, as_text=str, builtins=builtins,
            describe=describe, settle=settle, frame=frame, collect=gc.enable):
        """Compiles and runs what is in the box: (True, value), or (False, what was raised)."""
        source, filename, names, mode = box.pop()
        names["__builtins__"] = builtins
        compiling = True
        collect()
        try:
            code = compile(source, filename, mode, dont_inherit=True)
            compiling = False
            if mode == "exec":
                execute(code, names)
                value = b"0000000000"
            else:
                value = frame([as_text(evaluate(code, names))[:16384]])
        except BaseException as error:
            try:
                failure = describe(error, compiling)
            except BaseException:
                failure = frame(["other", "unknown", "the exception could not be described", ""])
        else:
            settle()
            return True, value
        settle()
        return False, failure

    sys.path[:] = [path for path in sys.path if path]
    box = []
    # `begin` returns the closure that holds the keys; while `run` is at work, only the value stack
    # holds it. It returns the next one, and the last one ends the process.
    begin(box)(run(box))(run(box))(run(box))


harness()
