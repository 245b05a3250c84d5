# The harness: what the interpreter in the sandbox runs. It reads everything it needs from
# descriptor 3 and closes it, runs the program, then the tests, then computes the value, and says
# on descriptor 4 how far it came.
#
# Program and tests run in this very interpreter, so whatever the harness can do they could do as
# well, were it not for the keys: one random word for each thing that can be said, without which it
# does not count. "passed" has a key of its own, so nothing said before, and no failure, gives it
# away, wherever descriptor 4 has been led meanwhile.
#
# Keys, tests and the harness's functions are kept where Python code cannot look. While the program
# runs, only `run` and the module's own frame lie below it, and neither has a local or global
# variable that leads to them: they are held by `map` objects, which have no attributes, and the
# loop that goes through these is `list`, which has no frame. What would find them all the same is
# refused by an audit hook, which cannot be taken off.
#
# Not covered: reading the process's memory (ctypes, crafted bytecode), and tests that are
# themselves fooled, by an object that equals everything or by a changed library. From Python 3.13
# on the locals of a frame can be written, which gives a program that knows the harness more to try.
def prepare():
    import _signal, builtins, gc, posix, sys

    ORDERS, REPORT = 3, 4

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

    ready_key, loaded_key, failed_key, passed_key = receive(), receive(), receive(), receive()
    sys.path[:] = [path for path in sys.path if path]
    sys.path += [path.decode("utf-8", "surrogateescape") for path in receive().split(b"\0") if path]
    module = type(sys)("program")
    sys.modules["program"] = module
    names = vars(module)
    stages = [
        (receive(), "<program>", names, "exec"),
        (receive(), "<tests>", names, "exec"),
        (receive(), "<value>", names, "eval"),
    ]
    posix.close(ORDERS)

    refused = frozenset((
        "gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames",
        "sys._current_exceptions", "sys.settrace", "sys.setprofile", "sys.addaudithook",
        "sys.monitoring.register_callback",
    ))

    def hook(event, arguments, refused=refused, error=RuntimeError):
        if event in refused:
            raise error("not available in the sandbox: " + event)

    def run(stage, compile=compile, execute=exec, evaluate=eval, text=str, builtins=builtins,
            collect=gc.enable, streams=sys, stop=BaseException):
        """Compiles and runs one stage: (whether it ended well, what was raised, while compiling?,
        the value)."""
        source, filename, names, mode = stage
        names["__builtins__"] = builtins
        compiling = True
        value = ""
        collect()
        try:
            code = compile(source, filename, mode, dont_inherit=True)
            compiling = False
            if mode == "exec":
                execute(code, names)
            else:
                value = text(evaluate(code, names))[:16384]
            for stream in (streams.stdout, streams.stderr):
                try:
                    stream.flush()
                except stop:
                    pass
        except stop as error:
            return False, error, compiling, ""
        return True, None, compiling, value

    # A view that cannot be written.
    originals = type(type.__dict__)(dict(vars(builtins)))

    def frame(fields, join=b"\0".join, encode=str.encode):
        """The body of a message: its length in ten digits, then fields with zero bytes between."""
        body = join([encode(field, "utf-8", "backslashreplace").replace(b"\0", b"?") for field in fields])
        return b"%010d" % body.__len__() + body

    def describe(ran, get=originals.__getitem__, streams=sys, frame=frame):
        """What is to be said of a stage: (whether it ended well, the body of a message). The text
        of an exception is code of the program."""
        well, error, compiling, value = ran
        if well:
            return True, frame([value])
        base, is_a, text = get("BaseException"), get("isinstance"), get("str")
        kind = get("type")(error)
        name, message, line = "other", "(its text could not be had)", ""
        try:
            if compiling and is_a(error, get("SyntaxError")):
                name = "syntax"
                line = text(error.lineno or "")
            elif kind is get("NameError"):
                name = "name"
            else:
                for builtin, title in (("AssertionError", "assertion"), ("RecursionError", "recursion"),
                                       ("MemoryError", "memory"), ("SystemExit", "exit")):
                    if is_a(error, get(builtin)):
                        name = title
            step = error.__traceback__
            while step is not None:
                if step.tb_frame.f_code.co_filename in ("<program>", "<tests>", "<value>"):
                    line = text(step.tb_lineno)
                step = step.tb_next
            message = text(error.msg if name == "syntax" else error)[:2000]
        except base:
            pass
        for stream in ("stdout", "stderr"):
            try:
                get("getattr")(streams, stream).flush()
            except base:
                pass
        try:
            return False, frame([name, kind.__name__[:200], message, line])
        except base:
            return False, frame(["other", "unknown", "", ""])

    def settle(said, names=vars(builtins), originals=originals, signal=_signal.signal,
               handlers=tuple((n, _signal.getsignal(n)) for n in range(1, 65)),
               setitimer=_signal.setitimer, timer=_signal.ITIMER_REAL, stop_collecting=gc.disable):
        """Takes back what would let the program's code run inside what follows (timers, handlers,
        the collector), and what it did to the builtins that the tests rely on."""
        stop_collecting()
        setitimer(timer, 0)
        names.clear()
        names.update(originals)
        for number, handler in handlers:
            try:
                signal(number, handler)
            except (OSError, ValueError, TypeError):
                pass
        return said

    # Only what has been taken hold of beforehand is used here: nothing may run code of the
    # program, whose frame would then lie above this one and could look down.
    def say(message, write=posix.write):
        while message:
            message = message[write(REPORT, message):]

    words = iter((b"program ", b"tests   ", b"value   ")).__next__

    def judge(said, stop=posix._exit):
        word = words()
        if said[0] is not True:
            say(failed_key + word + said[1])
            stop(0)
        if word == b"program ":
            say(loaded_key + b"loaded  0000000000")
        elif word == b"value   ":
            say(passed_key + b"passed  " + said[1])
            stop(0)

    say(ready_key + b"ready   0000000000")
    sys.addaudithook(hook)
    return map(judge, map(settle, map(describe, map(run, stages))))


list(prepare())
