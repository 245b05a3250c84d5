//! The error of every library here, with the user's faults apart from everything else.

use std::fmt;

use crate::{Fault, Interrupted};

/// What a public function of these crates returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not work, by who can mend it.
///
/// ```
/// use lopper_record::{Error, LayerSet};
///
/// match LayerSet::parse("40-50", 32) {
///     Err(Error::Input(fault)) => assert!(fault.hint.unwrap().contains("0-31")),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user's input is at fault: a file, an argument, a study file. Exit status 2.
    #[error(transparent)]
    Input(#[from] Fault),
    /// The user stopped the work. Exit status 130.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Anything else: the disk, the network, a bug. Exit status 1.
    #[error(transparent)]
    Other(anyhow::Error),
}

impl Error {
    /// The user's fault, where it is one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Input(fault) => Some(fault),
            _ => None,
        }
    }

    /// The user's fault, or the error as it was.
    pub fn into_fault(self) -> Result<Fault> {
        match self {
            Self::Input(fault) => Ok(fault),
            other => Err(other),
        }
    }

    /// The error with what was being done before its message; an interrupt needs none.
    pub fn context(self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        match self {
            Self::Input(fault) => Fault { message: format!("{context}: {}", fault.message), ..fault }.into(),
            Self::Interrupted(interrupted) => interrupted.into(),
            Self::Other(error) => Self::Other(error.context(context)),
        }
    }

    /// Whether the user stopped the work.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted(_))
    }
}

/// Says what was being done when something went wrong, as `anyhow::Context` does, and keeps the kind of [`Error`].
pub trait Context<T>: Sized {
    /// With `context` before the message.
    fn context(self, context: impl fmt::Display + Send + Sync + 'static) -> Result<T> {
        self.with_context(|| context)
    }

    /// With what `context` returns before the message.
    fn with_context<C: fmt::Display + Send + Sync + 'static>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Context<T> for Result<T, E> {
    fn with_context<C: fmt::Display + Send + Sync + 'static>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| Error::from(error.into()).context(context()))
    }
}

impl<T> Context<T> for Option<T> {
    fn with_context<C: fmt::Display + Send + Sync + 'static>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.ok_or_else(|| Error::Other(anyhow::anyhow!("{}", context())))
    }
}

/// Returns early with [`Error::Other`] and a message, as `anyhow::bail!` does.
#[macro_export]
macro_rules! bail {
    ($($message:tt)*) => { return Err($crate::Error::from($crate::anyhow::anyhow!($($message)*))) };
}

/// Returns early with [`Error::Other`] and a message unless the condition holds, as `anyhow::ensure!` does.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => { if !$condition { $crate::bail!($($message)*) } };
}

impl From<anyhow::Error> for Error {
    /// Finds the user's fault, or the interrupt, in the chain of causes. What led to a fault precedes its message.
    fn from(error: anyhow::Error) -> Self {
        if AsRef::<dyn std::error::Error>::as_ref(&error).is::<Self>() {
            return error.downcast().expect("its type is known");
        }
        let mut contexts = String::new();
        for cause in error.chain() {
            let fault = match cause.downcast_ref::<Self>() {
                Some(Self::Interrupted(_)) => return Self::Interrupted(Interrupted),
                Some(Self::Input(fault)) => Some(fault),
                _ => cause.downcast_ref::<Fault>(),
            };
            if let Some(fault) = fault {
                return Self::Input(Fault { message: format!("{contexts}{}", fault.message), ..fault.clone() });
            }
            if cause.is::<Interrupted>() {
                return Self::Interrupted(Interrupted);
            }
            contexts += &format!("{cause}: ");
        }
        Self::Other(error)
    }
}

macro_rules! other {
    ($($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::Other(error.into())
            }
        })*
    };
}

other!(std::io::Error, std::num::ParseIntError, fmt::Error, serde_json::Error);

#[cfg(test)]
mod tests {
    use super::*;

    fn through(error: impl Into<anyhow::Error>) -> Error {
        error.into().context("reading the plan").context("outer").into()
    }

    #[test]
    fn the_cause_is_found_through_any_context() {
        let fault = Fault::new("not valid JSON").hint("write it again");
        let found = |error| match error {
            Error::Input(fault) => fault,
            other => panic!("{other:?}"),
        };
        let expected = Fault { message: "outer: reading the plan: not valid JSON".into(), ..fault.clone() };
        assert_eq!(found(through(fault.clone())), expected);
        assert_eq!(found(through(Error::from(fault.clone()))), expected);
        assert_eq!(found(anyhow::Error::from(Error::from(fault.clone())).into()), fault);
        assert!(matches!(through(Interrupted), Error::Interrupted(_)));
        assert!(matches!(through(Error::from(Interrupted)), Error::Interrupted(_)));
        let other = through(std::io::Error::other("disk full"));
        assert!(matches!(&other, Error::Other(error) if format!("{error:#}") == "outer: reading the plan: disk full"));
    }
}
