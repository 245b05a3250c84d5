//! One stage's bookkeeping: how many cells it is made of, how many were there, how long they took.
//!
//! Strategies often agree on a cut, and then its cell serves both. It is counted once in a study,
//! in the first stage that asks for it: neither as work of an earlier run nor as time twice.
//!
//! Cuts share what they have in common, so those that a stage will ask for are measured some at a time, and a cut that
//! is asked for is then usually there.

use std::collections::HashSet;

use anyhow::Result;
use lopper_measure::Outcomes;
use lopper_pocket::Split;
use lopper_record::study::Timing;

use crate::measure::Candidate;
use crate::runner::Study;

/// Cuts measured together: enough for most of the sharing, few enough that an interrupt loses little.
const TOGETHER: usize = 12;

/// A cut on one split's items.
pub type Asked = (Vec<usize>, Split);

/// A cut without a cell for some tasks.
struct Missing {
    cut: Asked,
    tasks: Vec<String>,
}

/// A stage that is running.
pub struct Stage {
    name: String,
    cells: usize,
    cached: usize,
    seconds: f64,
    /// Cuts that no earlier stage or run has measured, in the order in which they will be asked for.
    missing: Vec<Missing>,
    /// Cuts that this run has measured.
    measured: HashSet<Asked>,
}

impl Stage {
    /// Counts the cuts of this stage that no earlier one had, and announces it.
    pub fn begin(study: &Study<'_>, name: &str, cuts: &[Asked]) -> Result<Self> {
        let mut counted = HashSet::new();
        let new: Vec<&Asked> = cuts.iter().filter(|cut| !study.seen.contains(*cut) && counted.insert(*cut)).collect();
        let mut missing = Vec::new();
        for (kept, split) in &new {
            let tasks = study.questions(*split).missing(&study.store, &study.candidate(kept))?;
            if !tasks.is_empty() {
                let tasks = tasks.into_iter().map(str::to_owned).collect();
                missing.push(Missing { cut: (kept.clone(), *split), tasks });
            }
        }
        let cells = new.len();
        if cells > 0 {
            study.observer.stage(name, cells, cells - missing.len());
        }
        Ok(Self { name: name.to_owned(), cells, cached: 0, seconds: 0.0, missing, measured: HashSet::new() })
    }

    /// Measures a cut, with some that will be asked for next, or finds it measured.
    pub fn eval(&mut self, study: &mut Study<'_>, kept: &[usize], split: Split, what: &str) -> Result<Outcomes> {
        let asked = (kept.to_vec(), split);
        let new = study.seen.insert(asked.clone());
        if let Some(at) = self.missing.iter().position(|missing| missing.cut == asked) {
            self.measure_next(study, at, what)?;
        } else if new {
            study.observer.cell(what);
        }
        let measured = study.questions(split).outcomes(&study.store, &study.candidate(kept), study.observer)?;
        if new {
            self.seconds += measured.seconds;
            self.cached += usize::from(measured.cached && !self.measured.contains(&asked));
            study.observer.cell_done();
        }
        Ok(measured.outcomes)
    }

    /// Measures the missing cut at `at` and some after it that lack the same tasks.
    fn measure_next(&mut self, study: &Study<'_>, at: usize, what: &str) -> Result<()> {
        let first = self.missing.remove(at);
        let mut next = vec![first.cut];
        self.missing.retain(|other| {
            let joins = next.len() < TOGETHER && other.cut.1 == next[0].1 && other.tasks == first.tasks;
            if joins {
                next.push(other.cut.clone());
            }
            !joins
        });
        match next.len() - 1 {
            0 => study.observer.cell(what),
            1 => study.observer.cell(&format!("{what}, and one more cut")),
            more => study.observer.cell(&format!("{what}, and {more} more cuts")),
        }
        let tasks: Vec<&str> = first.tasks.iter().map(String::as_str).collect();
        let candidates: Vec<Candidate<'_>> = next.iter().map(|(kept, _)| study.candidate(kept)).collect();
        study.questions(next[0].1).measure(&study.store, &candidates, &tasks, study.observer)?;
        self.measured.extend(next);
        Ok(())
    }

    /// Enters the stage into the record and writes it.
    pub fn end(self, study: &mut Study<'_>) -> Result<()> {
        let Self { name, cells, cached, seconds, .. } = self;
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
