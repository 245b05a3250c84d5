//! The syntax tree.

#[derive(Debug)]
pub(super) struct Program {
    pub functions: Vec<Function>,
    /// The statements of the top level; a definition is [`Stmt::Def`].
    pub body: Vec<Stmt>,
}

#[derive(Debug)]
pub(super) struct Function {
    pub name: String,
    pub parameters: Vec<String>,
    pub body: Vec<Stmt>,
    /// Every name that the body binds, parameters included: in Python these are local throughout.
    pub locals: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Stmt {
    /// Binds the function of this number to its name.
    Def(usize),
    Assign(String, Expr),
    AugAssign(String, Op, Expr),
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    While(Expr, Vec<Stmt>),
    For(String, Expr, Vec<Stmt>),
    Return(Option<Expr>),
    Break,
    Continue,
    Pass,
    Expr(Expr),
}

#[derive(Debug)]
pub(super) enum Expr {
    Int(i64),
    Bool(bool),
    None,
    Str,
    Name(String),
    Negate(Box<Expr>),
    Plus(Box<Expr>),
    Not(Box<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Cmp, Expr)>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `then if condition else otherwise`, the condition first.
    Conditional(Box<Expr>, Box<Expr>, Box<Expr>),
    Call(Box<Expr>, Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cmp {
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}
