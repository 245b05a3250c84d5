//! A function as a [`Progress`], for callers that do not take one themselves yet.

use std::sync::atomic::{AtomicUsize, Ordering};

use lopper_record::{Progress, Step};

/// Calls the function with the units done and in all.
#[doc(hidden)]
pub struct ProgressFn<F>(pub F);

struct FnStep<'a, F> {
    function: &'a F,
    total: AtomicUsize,
}

impl<F: Fn(usize, usize) + Sync> Progress for ProgressFn<F> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(FnStep { function: &self.0, total: step.total.into() })
    }
}

impl<F: Fn(usize, usize) + Sync> Progress for FnStep<'_, F> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(FnStep { function: self.function, total: step.total.into() })
    }

    fn set(&self, done: usize) {
        (self.function)(done, self.total.load(Ordering::Relaxed));
    }

    fn set_total(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }
}
