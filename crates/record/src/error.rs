//! The error of every library here, with the user's faults apart from everything else.

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

impl From<anyhow::Error> for Error {
    /// Finds the user's fault, or the interrupt, in the chain of causes. What led to a fault precedes its message.
    fn from(error: anyhow::Error) -> Self {
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

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Other(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn through(error: impl Into<anyhow::Error>) -> Error {
        Err::<(), _>(error.into()).context("reading the plan").context("outer").unwrap_err().into()
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
