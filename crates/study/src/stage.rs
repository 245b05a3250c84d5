//! One stage's bookkeeping: how many cells it is made of, how many were there, how long they took.
//!
//! Strategies often agree on a cut, and then its cell serves both. It is counted once in a study,
//! in the first stage that asks for it: neither as work of an earlier run nor as time twice.

use std::collections::HashSet;

use anyhow::Result;
use lopper_pocket::Split;
use lopper_record::study::Timing;

use crate::measure::{Candidate, Outcomes, finished, outcomes};
use crate::runner::Study;

/// A cut on one split's items.
pub type Asked = (Vec<usize>, Split);

/// A stage that is running.
pub struct Stage {
    name: String,
    cells: usize,
    cached: usize,
    seconds: f64,
}

impl Stage {
    /// Counts the cuts of this stage that no earlier one had, and announces it.
    pub fn begin(study: &Study<'_>, name: &str, cuts: &[Asked]) -> Result<Self> {
        let new: HashSet<&Asked> = cuts.iter().filter(|cut| !study.seen.contains(*cut)).collect();
        let mut there = 0;
        for (kept, split) in &new {
            let options = study.recipe.eval_options(*split);
            there += usize::from(finished(&study.store, &study.candidate(kept), &study.tasks, &options)?);
        }
        let cells = new.len();
        if cells > 0 {
            study.observer.stage(name, cells, there);
        }
        Ok(Self { name: name.to_owned(), cells, cached: 0, seconds: 0.0 })
    }

    /// Measures a cut, or finds it measured.
    pub fn eval(&mut self, study: &mut Study<'_>, kept: &[usize], split: Split, what: &str) -> Result<Outcomes> {
        let new = study.seen.insert((kept.to_vec(), split));
        if new {
            study.observer.cell(what);
        }
        let options = study.recipe.eval_options(split);
        let candidate = study.candidate(kept);
        let measured = outcomes(&study.store, &study.suites, &candidate, &study.tasks, &options, study.observer)?;
        if new {
            self.seconds += measured.seconds;
            self.cached += usize::from(measured.cached);
            study.observer.cell_done();
        }
        Ok(measured.outcomes)
    }

    /// Enters the stage into the record and writes it.
    pub fn end(self, study: &mut Study<'_>) -> Result<()> {
        let Self { name, cells, cached, seconds } = self;
        if cells > 0 {
            study.record.timings.push(Timing { stage: name, seconds, cells, cached });
        }
        study.record.write(study.store.directory())
    }
}

impl Study<'_> {
    /// The model under study with only the layers in `kept`.
    fn candidate<'b>(&'b self, kept: &'b [usize]) -> Candidate<'b> {
        let subject = self.subject;
        Candidate { text: &subject.text, model: &subject.card.hash, kept, run: kept, healed: None }
    }
}
