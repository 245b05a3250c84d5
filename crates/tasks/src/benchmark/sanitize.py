# Finds the program in a response, as EvalPlus's sanitizer does. Responses are parsed here, never run; this runs in the
# sandbox because parsing hostile text can exhaust or crash an interpreter.
#
# 1. The longest range of lines that is valid Python. EvalPlus parses every range; here the errors' lines, and lines
#    that can begin no statement, leave few to be parsed. Unlike EvalPlus: a range that defines what the tests call is
#    preferred to one that does not, and the later one to another of the same length; one line is enough.
# 2. Of its top-level statements: imports, and whatever gives a value to a name that the tests need, or changes it.
#    Prints, assertions, examples and `if __name__ == "__main__"` are left out.
import ast
import re
import symtable
import warnings

warnings.simplefilter("ignore")

# Of `compile`: an unfinished statement is reported as "incomplete input" (what `codeop` uses, from Python 3.11 on).
ALLOW_INCOMPLETE = 0x4000
try:
    compile("", "<response>", "exec", ast.PyCF_ONLY_AST | ALLOW_INCOMPLETE)
except ValueError:
    ALLOW_INCOMPLETE = 0

# Characters parsed for one response; programs of models take a few times their length.
MOST_PARSED = 8000000
# Pieces of one program; with more it is kept whole.
MOST_PIECES = 60

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
INVALID = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


class Exhausted(Exception):
    pass


class Response:
    """The lines of a response, and what parsing them costs."""

    def __init__(self, text):
        self.lines = text.split("\n")
        self.parsed = 0

    def source(self, start, end):
        return "\n".join(self.lines[start:end])

    def parse(self, start, end):
        """The syntax tree of the lines, or None, with the first line that cannot be part of a valid range that
        contains `start` (or `end` where that is not known)."""
        source = self.source(start, end)
        self.parsed += len(source) + 200
        if self.parsed > MOST_PARSED:
            raise Exhausted
        try:
            return compile(source, "<response>", "exec", ast.PyCF_ONLY_AST), end
        except SyntaxError as error:
            # Errors inside an f-string do not always have a line of the source.
            known = error.filename == "<response>" and error.lineno and "f-string" not in str(error.msg)
            return None, min(start + error.lineno - 1, end) if known else end
        except INVALID:
            return None, end

    def incomplete(self, start, end):
        """Whether further lines could make the lines valid, which are not so."""
        source = self.source(start, end)
        self.parsed += len(source) + 200
        if source.endswith("\\") or not ALLOW_INCOMPLETE:
            return True
        try:
            compile(source + "\n", "<response>", "exec", ast.PyCF_ONLY_AST | ALLOW_INCOMPLETE)
        except INVALID as error:
            return isinstance(error, SyntaxError) and "incomplete input" in str(error.msg)
        return False

    def begins_nothing(self, at):
        """Whether no statement begins with this line and none goes on with it, unless it is inside of a literal or
        brackets."""
        line = self.lines[at]
        if not line.strip() or line[0] in " \t\f#" or re.match(r"(else|elif|except|finally)\b", line):
            return False
        return self.parse(at, at + 1)[0] is None and not self.incomplete(at, at + 1)

    def ranges(self):
        """The longest valid range from each line that begins one: (start, end, tree)."""
        stops = [at for at in range(len(self.lines)) if self.begins_nothing(at)] + [len(self.lines)]
        stopped = set(stops)
        covered = set()
        for start, line in enumerate(self.lines):
            if not line.strip() or line[0] in " \t\f" or start in stopped or start in covered:
                continue
            end, tree = len(self.lines), None
            for end in stops:
                if end <= start:
                    continue
                tree, invalid = self.parse(start, end)
                # Only a range that ends inside a literal or brackets can go beyond this line.
                if tree is not None or not self.incomplete(start, end):
                    break
            while tree is None and end > start:
                end = min(end - 1, invalid)
                if end > start:
                    tree, invalid = self.parse(start, end)
            if tree is None:
                continue
            # A later start at a border between statements gives a part of this range.
            inside = {at for node in tree.body for at in range(node.lineno, node.end_lineno)}
            covered.update(start + at for at in range(end - start) if at not in inside)
            yield start, end, tree


def bindings(node):
    """The names that a top-level statement gives a value to, and those of objects that it changes."""
    bound, changed = set(), set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, FUNCTIONS + (ast.ClassDef,)):
            bound.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            changed.add(root(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if isinstance(node.value.func, ast.Attribute):
                changed.add(root(node.value.func))
        waiting.extend(ast.iter_child_nodes(node))
    return bound, changed


def root(node):
    """The name whose object is changed by storing into this place."""
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def is_main_guard(node):
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )


def uses(node, source):
    """The module's names that a statement reads, here or in functions."""
    try:
        table = symtable.symtable(source, "<response>", "exec")
    except INVALID:
        return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    found = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    tables = list(table.get_children())
    while tables:
        table = tables.pop()
        found.update(symbol.get_name() for symbol in table.get_symbols() if symbol.is_global())
        tables.extend(table.get_children())
    return found


def does_something(node):
    """Whether a function is more than a heading: a docstring, `pass`, `...` and NotImplementedError do nothing."""
    for statement in node.body:
        nothing = isinstance(statement, ast.Pass)
        nothing |= isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        nothing |= isinstance(statement, ast.Raise) and any(
            isinstance(part, ast.Name) and part.id == "NotImplementedError" for part in ast.walk(statement)
        )
        if not nothing:
            return True
    return False


def gives_something(node):
    return any(isinstance(part, (ast.Return, ast.Yield, ast.YieldFrom)) for part in ast.walk(node))


def defined(response, end, tree, names):
    """How many of the names a range defines, and how many it imports."""
    following = next((line for line in response.lines[end:] if line.strip()), "")
    made, imported = set(), set()
    for node in tree.body:
        bound, _ = bindings(node)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imported |= bound & names
        elif isinstance(node, FUNCTIONS) and node.name in names:
            # One that is cut off where the code cannot be parsed is no definition unless it gives something.
            cut = node is tree.body[-1] and following[:1] in (" ", "\t")
            if does_something(node) and (not cut or gives_something(node)):
                made.add(node.name)
        elif not is_main_guard(node):
            made |= bound & names
    return len(made), len(imported)


def spans(source, tree):
    """Where each top-level statement begins and ends, in bytes."""
    begins = [0]
    for line in source.split("\n"):
        begins.append(begins[-1] + len(line.encode()) + 1)
    for node in tree.body:
        begin = begins[node.lineno - 1] + node.col_offset
        for decorator in getattr(node, "decorator_list", ()):
            begin = min(begin, begins[decorator.lineno - 1])
        yield begin, begins[node.end_lineno - 1] + node.end_col_offset


def kept(source, tree, names):
    """The pieces of the source to run, in order: (begin, end) in bytes."""
    encoded = source.encode()
    places = list(spans(source, tree))
    facts = [bindings(node) for node in tree.body]
    imports = [isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body]
    # Objects that statements may change: not modules, functions or classes.
    data = set()
    for node, (bound, _) in zip(tree.body, facts):
        if not isinstance(node, FUNCTIONS + (ast.ClassDef, ast.Import, ast.ImportFrom)):
            data |= bound
    needed, chosen = set(names), set()
    grown = True
    while grown:
        grown = False
        for at, node in enumerate(tree.body):
            bound, changed = facts[at]
            if at in chosen or imports[at] or is_main_guard(node) or isinstance(node, ast.Assert):
                continue
            if (bound | (changed & data)) & needed:
                chosen.add(at)
                begin, end = places[at]
                needed |= uses(node, encoded[begin:end].decode())
                grown = True
    future = [at for at, node in enumerate(tree.body) if getattr(node, "module", None) == "__future__"]
    others = [at for at in range(len(tree.body)) if imports[at] and at not in future]
    pieces, before = [], None
    for at in future + others + sorted(chosen):
        begin, end = places[at]
        # Neighbours stay together, with what is between them.
        if before is not None and at == before + 1:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((begin, end))
        before = at
    return pieces if len(pieces) <= MOST_PIECES else [(0, len(encoded))]


def best(text, names):
    """The pieces of the best range of a response; none where no range defines any of the names."""
    response = Response(text)
    found, rank = None, (0, 0)
    try:
        for start, end, tree in response.ranges():
            made, imported = defined(response, end, tree, names)
            length = sum(1 for line in response.lines[start:end] if line.strip())
            if made + imported and (made, imported, length) >= rank:
                found, rank = (start, end, tree), (made, imported, length)
    except Exhausted:
        pass
    if found is None:
        return []
    start, end, tree = found
    before = len("\n".join(response.lines[:start]).encode()) + 1 if start else 0
    return [(before + begin, before + end) for begin, end in kept(response.source(start, end), tree, names)]


def indents(text):
    """By how much code may be indented as a whole: not at all, as much as a fence, or as much as every line."""
    found = [0]
    lines = [line for line in text.split("\n") if line.strip()]
    blank = [len(line) - len(line.lstrip(" \t")) for line in lines]
    fences = [n for line, n in zip(lines, blank) if n and line.lstrip(" \t").startswith(("```", "~~~"))]
    for indent in fences + [min(blank, default=0)]:
        if indent not in found and len(found) < 4:
            found.append(indent)
    return found


def sanitize(responses):
    """For each (text, names): `indent:begin-end,begin-end`, the bytes to run once each line has lost that much of its
    indentation; nothing where the names are not defined."""
    answers = []
    for text, names in responses:
        answer = ""
        for indent in indents(text):
            lost = re.sub(r"(?m)^[ \t]{1,%d}" % indent, "", text) if indent else text
            pieces = best(lost, set(names))
            if pieces:
                answer = "%d:%s" % (indent, ",".join("%d-%d" % piece for piece in pieces))
                break
        answers.append(answer)
    return ";".join(answers)
