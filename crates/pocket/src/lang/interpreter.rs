//! Runs a syntax tree within limits.

use std::collections::HashMap;

use super::ast::{Cmp, Expr, Op, Program, Stmt};
use super::{Limits, Outcome};

/// Nested evaluations, so that the use of the thread's stack is bounded for any program.
const MAX_LEVELS: usize = 1500;

/// Unsupported builtin functions of Python: using one is not an undefined name.
const UNSUPPORTED_BUILTINS: &str = "all any bool chr dict divmod enumerate filter float int isinstance len list map ord \
    pow print reversed round set sorted str sum zip";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Int(i64),
    Bool(bool),
    None,
    Str,
    Range { start: i64, stop: i64, step: i64 },
    Function(usize),
    Builtin(Builtin),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Builtin {
    Abs,
    Max,
    Min,
    Range,
}

enum Flow {
    Next,
    Break,
    Continue,
    Return(Value),
}

type Ran<T> = Result<T, Outcome>;

/// Executes the top level, then calls the function.
pub(super) fn call(program: &Program, function: &str, args: &[i64], limits: Limits) -> Ran<i64> {
    let mut machine = Machine { program, globals: HashMap::new(), steps: limits.steps, depth: limits.depth, levels: 0 };
    machine.block(&program.body, None)?;
    let callee = machine.global(function)?;
    let args = args.iter().map(|a| Value::Int(*a)).collect();
    match machine.apply(callee, args)? {
        Value::Int(value) => Ok(value),
        Value::Bool(value) => Ok(i64::from(value)),
        other => Err(Outcome::Assertion(format!("returned {}", other.kind()))),
    }
}

struct Machine<'a> {
    program: &'a Program,
    globals: HashMap<&'a str, Value>,
    steps: u64,
    depth: usize,
    levels: usize,
}

/// The local variables of a call.
struct Frame<'a> {
    names: &'a [String],
    values: HashMap<&'a str, Value>,
}

fn type_error<T>(message: impl Into<String>) -> Ran<T> {
    Err(Outcome::Other(format!("type error: {}", message.into())))
}

impl Value {
    fn kind(self) -> &'static str {
        match self {
            Self::Int(_) => "an integer",
            Self::Bool(_) => "a Boolean",
            Self::None => "None",
            Self::Str => "a string",
            Self::Range { .. } => "a range",
            Self::Function(_) | Self::Builtin(_) => "a function",
        }
    }

    fn int(self) -> Ran<i64> {
        match self {
            Self::Int(value) => Ok(value),
            Self::Bool(value) => Ok(i64::from(value)),
            other => type_error(format!("{} is not a number", other.kind())),
        }
    }

    fn truth(self) -> Ran<bool> {
        match self {
            Self::Int(value) => Ok(value != 0),
            Self::Bool(value) => Ok(value),
            Self::None => Ok(false),
            Self::Function(_) | Self::Builtin(_) => Ok(true),
            Self::Range { start, stop, step } => Ok(if step > 0 { start < stop } else { start > stop }),
            Self::Str => Err(Outcome::Other("strings are not supported".to_owned())),
        }
    }
}

impl<'a> Machine<'a> {
    fn step(&mut self) -> Ran<()> {
        self.steps = self.steps.checked_sub(1).ok_or_else(|| Outcome::Timeout("too many steps".to_owned()))?;
        Ok(())
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Ran<T>) -> Ran<T> {
        if self.levels >= MAX_LEVELS {
            return Err(Outcome::Timeout("recursion too deep".to_owned()));
        }
        self.levels += 1;
        let result = run(self);
        self.levels -= 1;
        result
    }

    fn global(&self, name: &str) -> Ran<Value> {
        if let Some(value) = self.globals.get(name) {
            return Ok(*value);
        }
        match name {
            "abs" => Ok(Value::Builtin(Builtin::Abs)),
            "max" => Ok(Value::Builtin(Builtin::Max)),
            "min" => Ok(Value::Builtin(Builtin::Min)),
            "range" => Ok(Value::Builtin(Builtin::Range)),
            _ if UNSUPPORTED_BUILTINS.split(' ').any(|builtin| builtin == name) => {
                Err(Outcome::Other(format!("'{name}' is not supported")))
            }
            _ => Err(Outcome::NameNotDefined(format!("name '{name}' is not defined"))),
        }
    }

    fn load(&self, name: &str, frame: Option<&Frame<'a>>) -> Ran<Value> {
        match frame {
            Some(frame) if frame.names.iter().any(|n| n == name) => frame
                .values
                .get(name)
                .copied()
                .ok_or_else(|| Outcome::NameNotDefined(format!("local variable '{name}' has no value yet"))),
            _ => self.global(name),
        }
    }

    fn store(&mut self, name: &'a str, value: Value, frame: Option<&mut Frame<'a>>) {
        match frame {
            Some(frame) => frame.values.insert(name, value),
            None => self.globals.insert(name, value),
        };
    }

    fn block(&mut self, body: &'a [Stmt], mut frame: Option<&mut Frame<'a>>) -> Ran<Flow> {
        self.deeper(|machine| {
            for statement in body {
                match machine.statement(statement, frame.as_deref_mut())? {
                    Flow::Next => {}
                    other => return Ok(other),
                }
            }
            Ok(Flow::Next)
        })
    }

    fn statement(&mut self, statement: &'a Stmt, mut frame: Option<&mut Frame<'a>>) -> Ran<Flow> {
        self.step()?;
        match statement {
            Stmt::Def(number) => {
                let name = self.program.functions[*number].name.as_str();
                self.store(name, Value::Function(*number), frame);
            }
            Stmt::Assign(name, value) => {
                let value = self.eval(value, frame.as_deref())?;
                self.store(name, value, frame);
            }
            Stmt::AugAssign(name, op, value) => {
                let left = self.load(name, frame.as_deref())?;
                let right = self.eval(value, frame.as_deref())?;
                let value = binary(*op, left, right)?;
                self.store(name, value, frame);
            }
            Stmt::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.eval(condition, frame.as_deref())?.truth()? {
                        return self.block(body, frame);
                    }
                }
                return self.block(otherwise, frame);
            }
            Stmt::While(condition, body) => {
                while self.eval(condition, frame.as_deref())?.truth()? {
                    match self.block(body, frame.as_deref_mut())? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::Next | Flow::Continue => {}
                    }
                }
            }
            Stmt::For(name, iterable, body) => {
                let Value::Range { mut start, stop, step } = self.eval(iterable, frame.as_deref())? else {
                    return type_error("only a range can be iterated over");
                };
                while if step > 0 { start < stop } else { start > stop } {
                    self.step()?;
                    self.store(name, Value::Int(start), frame.as_deref_mut());
                    match self.block(body, frame.as_deref_mut())? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::Next | Flow::Continue => {}
                    }
                    let Some(next) = start.checked_add(step) else { break };
                    start = next;
                }
            }
            Stmt::Return(value) => {
                return Ok(Flow::Return(match value {
                    Some(value) => self.eval(value, frame.as_deref())?,
                    None => Value::None,
                }));
            }
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
            Stmt::Pass => {}
            Stmt::Expr(value) => {
                self.eval(value, frame.as_deref())?;
            }
        }
        Ok(Flow::Next)
    }

    fn eval(&mut self, expr: &'a Expr, frame: Option<&Frame<'a>>) -> Ran<Value> {
        self.step()?;
        match expr {
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::None => Ok(Value::None),
            Expr::Str => Ok(Value::Str),
            Expr::Name(name) => self.load(name, frame),
            _ => self.deeper(|machine| machine.compound(expr, frame)),
        }
    }

    fn compound(&mut self, expr: &'a Expr, frame: Option<&Frame<'a>>) -> Ran<Value> {
        match expr {
            Expr::Negate(value) => {
                let value = self.eval(value, frame)?.int()?;
                value.checked_neg().map(Value::Int).ok_or_else(overflow)
            }
            Expr::Plus(value) => Ok(Value::Int(self.eval(value, frame)?.int()?)),
            Expr::Not(value) => Ok(Value::Bool(!self.eval(value, frame)?.truth()?)),
            Expr::Binary(op, left, right) => {
                let left = self.eval(left, frame)?;
                let right = self.eval(right, frame)?;
                binary(*op, left, right)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first, frame)?;
                for (cmp, right) in rest {
                    let right = self.eval(right, frame)?;
                    if !compare(*cmp, left, right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::And(left, right) => {
                let left = self.eval(left, frame)?;
                if left.truth()? { self.eval(right, frame) } else { Ok(left) }
            }
            Expr::Or(left, right) => {
                let left = self.eval(left, frame)?;
                if left.truth()? { Ok(left) } else { self.eval(right, frame) }
            }
            Expr::Conditional(condition, then, otherwise) => {
                let chosen = if self.eval(condition, frame)?.truth()? { then } else { otherwise };
                self.eval(chosen, frame)
            }
            Expr::Call(callee, args) => {
                let callee = self.eval(callee, frame)?;
                let args = args.iter().map(|a| self.eval(a, frame)).collect::<Ran<Vec<_>>>()?;
                self.apply(callee, args)
            }
            _ => self.eval(expr, frame),
        }
    }

    fn apply(&mut self, callee: Value, args: Vec<Value>) -> Ran<Value> {
        let number = match callee {
            Value::Function(number) => number,
            Value::Builtin(builtin) => return apply_builtin(builtin, &args),
            other => return type_error(format!("{} is not callable", other.kind())),
        };
        let program = self.program;
        let function = &program.functions[number];
        if function.parameters.len() != args.len() {
            return type_error(format!(
                "{} takes {} arguments, not {}",
                function.name,
                function.parameters.len(),
                args.len()
            ));
        }
        self.depth = self.depth.checked_sub(1).ok_or_else(|| Outcome::Timeout("recursion too deep".to_owned()))?;
        let values = function.parameters.iter().map(String::as_str).zip(args).collect();
        let mut frame = Frame { names: &function.locals, values };
        let flow = self.block(&function.body, Some(&mut frame))?;
        self.depth += 1;
        Ok(if let Flow::Return(value) = flow { value } else { Value::None })
    }
}

fn apply_builtin(builtin: Builtin, args: &[Value]) -> Ran<Value> {
    match (builtin, args) {
        (Builtin::Abs, [value]) => value.int()?.checked_abs().map(Value::Int).ok_or_else(overflow),
        (Builtin::Max | Builtin::Min, [first, rest @ ..]) if !rest.is_empty() => {
            let mut best = *first;
            let mut best_int = first.int()?;
            for value in rest {
                let int = value.int()?;
                if if builtin == Builtin::Max { int > best_int } else { int < best_int } {
                    (best, best_int) = (*value, int);
                }
            }
            Ok(best)
        }
        (Builtin::Range, [_] | [_, _] | [_, _, _]) => {
            let ints = args.iter().map(|a| a.int()).collect::<Ran<Vec<_>>>()?;
            let (start, stop, step) = match ints[..] {
                [stop] => (0, stop, 1),
                [start, stop] => (start, stop, 1),
                [start, stop, step, ..] => (start, stop, step),
                [] => return type_error("range takes arguments"),
            };
            if step == 0 {
                return Err(Outcome::Other("range() arg 3 must not be zero".to_owned()));
            }
            Ok(Value::Range { start, stop, step })
        }
        _ => type_error("wrong number of arguments"),
    }
}

fn overflow() -> Outcome {
    Outcome::Other("integer overflow: only 64 bits are supported".to_owned())
}

fn binary(op: Op, left: Value, right: Value) -> Ran<Value> {
    let (a, b) = (left.int()?, right.int()?);
    if b == 0 && matches!(op, Op::FloorDiv | Op::Mod) {
        return Err(Outcome::Other("division by zero".to_owned()));
    }
    let result = match op {
        Op::Add => a.checked_add(b),
        Op::Sub => a.checked_sub(b),
        Op::Mul => a.checked_mul(b),
        // Python rounds towards minus infinity and gives the remainder the divisor's sign.
        Op::FloorDiv => a.checked_div(b).map(|quotient| quotient - i64::from(a % b != 0 && (a < 0) != (b < 0))),
        Op::Mod => a
            .checked_rem(b)
            .map(|remainder| if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder })
            .or(Some(0)),
        Op::Pow if b < 0 => {
            return Err(Outcome::Other("a negative power is not supported".to_owned()));
        }
        Op::Pow => match a {
            0 | 1 => Some(if b == 0 { 1 } else { a }),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        },
    };
    result.map(Value::Int).ok_or_else(overflow)
}

fn compare(cmp: Cmp, left: Value, right: Value) -> Ran<bool> {
    let numbers = (left.int(), right.int());
    if let (Ok(a), Ok(b)) = numbers {
        return Ok(match cmp {
            Cmp::Lt => a < b,
            Cmp::Le => a <= b,
            Cmp::Gt => a > b,
            Cmp::Ge => a >= b,
            Cmp::Eq => a == b,
            Cmp::Ne => a != b,
        });
    }
    match cmp {
        Cmp::Eq | Cmp::Ne if left == Value::Str && right == Value::Str => {
            Err(Outcome::Other("strings are not supported".to_owned()))
        }
        Cmp::Eq => Ok(left == right),
        Cmp::Ne => Ok(left != right),
        _ => type_error(format!("{} cannot be ordered against {}", left.kind(), right.kind())),
    }
}
