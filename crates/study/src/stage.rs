//! The bookkeeping of one stage: how many cells it has, how many an earlier run had finished, how long they took.
//!
//! Strategies often agree on a cut, and then its cell serves both. It is counted once in a study, in the first stage
//! that uses it: neither as work of an earlier run nor as time twice.
//!
//! Cuts share the layers that they have in common, so the missing cuts of a stage are evaluated some at a time, before
//! each of them is needed. Where several processes work on a study, each claims the cuts that it evaluates; what
//! another process has claimed is left to it, and waited for once nothing else is missing.

use std::collections::HashSet;

use lopper_measure::Outcomes;
use lopper_pocket::Split;
use lopper_record::study::Timing;
use lopper_record::{Claim, LayerPosition, LayerSet, NoProgress, Progress, Result, Step, Store};

use crate::StudyModel;
use crate::eval_split::{Candidate, EvalSplit};

/// Cuts evaluated together: enough for most of the sharing, few enough that an interrupt loses little.
const TOGETHER: usize = 12;

/// A stage: a step of the study's progress whose units are cells.
pub struct Stage<'a> {
    step: Box<dyn Progress + 'a>,
    timing: Timing,
    /// Cells that were there when it began, and those finished since.
    finished: usize,
}

impl<'a> Stage<'a> {
    /// Announces a stage of `cells`, of which `found` are there.
    pub fn begin(progress: &'a dyn Progress, name: &str, cells: usize, found: usize) -> Self {
        let step = match cells {
            0 => Box::new(NoProgress),
            _ => progress.step(Step::new(name, "cells", cells).found(found)),
        };
        Self { step, timing: Timing { stage: name.to_owned(), cells, ..Timing::default() }, finished: found }
    }

    /// Names the cell that is computed next; its work are steps of what is returned.
    pub fn cell(&self, what: &str) -> &dyn Progress {
        self.step.message(what);
        &*self.step
    }

    /// Counts a cell that took `seconds` when it was computed: by an earlier run, or now.
    ///
    /// # Errors
    /// [`Interrupted`](lopper_record::Interrupted).
    pub fn count(&mut self, seconds: f64, by_earlier_run: bool) -> Result<()> {
        self.timing.seconds += seconds;
        if by_earlier_run {
            self.timing.cached += 1;
            return Ok(());
        }
        self.finished = self.timing.cells.min(self.finished + 1);
        self.step.set(self.finished);
        self.step.check()
    }

    /// What it took.
    pub fn timing(self) -> Timing {
        self.timing
    }
}

/// A cut on the items of one split.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CutOnSplit {
    /// The layers that stay.
    pub kept: LayerSet<LayerPosition>,
    /// The items.
    pub split: Split,
}

/// The uncut model and where the cells of its cuts are found.
#[derive(Clone, Copy)]
pub struct CutCells<'a> {
    pub model: &'a StudyModel,
    pub store: &'a Store,
    /// The tasks on the items that scores are reported on, and on those that layers are chosen by.
    pub report: &'a EvalSplit,
    pub select: &'a EvalSplit,
}

impl<'a> CutCells<'a> {
    fn split(&self, split: Split) -> &'a EvalSplit {
        if split == Split::Select { self.select } else { self.report }
    }

    pub fn candidate<'b>(&'b self, kept: &'b LayerSet<LayerPosition>) -> Candidate<'b> {
        let StudyModel { card, text, .. } = self.model;
        Candidate { text, model: &card.hash, kept, run: kept.slots(), healed: None }
    }
}

/// A stage whose cells are evaluated cuts.
pub struct CutStage<'a> {
    cells: CutCells<'a>,
    stage: Stage<'a>,
    /// Cuts that no earlier stage has used and this one has not used yet.
    new: HashSet<CutOnSplit>,
    /// Cuts that no earlier stage or run has evaluated, in the order in which they will be used.
    missing: Vec<Missing>,
    /// Cuts that this stage has evaluated.
    evaluated: HashSet<CutOnSplit>,
}

/// Whether this process evaluates a cut.
enum Claimed {
    /// It does.
    Now(Claim),
    /// Another one does, or it is not this cut's turn.
    ByOther,
    /// It is evaluated.
    Finished,
}

/// A cut without a cell for some tasks.
struct Missing {
    cut: CutOnSplit,
    tasks: Vec<String>,
}

impl<'a> CutStage<'a> {
    /// Counts the cuts that no earlier stage has used (`used`, which takes them in), and announces the stage.
    pub fn begin(
        cells: CutCells<'a>,
        used: &mut HashSet<CutOnSplit>,
        progress: &'a dyn Progress,
        name: &str,
        cuts: &[CutOnSplit],
    ) -> Result<Self> {
        let (mut new, mut missing) = (HashSet::new(), Vec::new());
        for cut in cuts {
            if !used.insert(cut.clone()) {
                continue;
            }
            new.insert(cut.clone());
            let tasks = cells.split(cut.split).missing(cells.store, &cells.candidate(&cut.kept))?;
            if !tasks.is_empty() {
                missing.push(Missing { cut: cut.clone(), tasks: tasks.into_iter().map(str::to_owned).collect() });
            }
        }
        let stage = Stage::begin(progress, name, new.len(), new.len() - missing.len());
        Ok(Self { cells, stage, new, missing, evaluated: HashSet::new() })
    }

    /// The outcomes of a cut: evaluated now, with some that will be used next, or found.
    pub fn outcomes(&mut self, cut: &CutOnSplit, what: &str) -> Result<Outcomes> {
        while let Some(at) = self.missing.iter().position(|missing| missing.cut == *cut) {
            self.evaluate_next(at, what)?;
        }
        let (split, candidate) = (self.cells.split(cut.split), self.cells.candidate(&cut.kept));
        let found = split.outcomes(self.cells.store, &candidate, self.stage.cell(what))?;
        if self.new.remove(cut) {
            self.stage.count(found.seconds, found.cached && !self.evaluated.contains(cut))?;
        }
        Ok(found.outcomes)
    }

    /// Evaluates the missing cut at `at` and some after it that lack the same tasks; others, where another process has
    /// claimed it. Waits a moment where nothing else is left.
    fn evaluate_next(&mut self, at: usize, what: &str) -> Result<()> {
        let mut claims = Vec::new();
        let mut next: Vec<CutOnSplit> = Vec::new();
        let mut tasks: Vec<String> = Vec::new();
        // From the cut that is needed on, and then those before it.
        self.missing.rotate_left(at);
        let mut left = Vec::new();
        for missing in std::mem::take(&mut self.missing) {
            let joins = next.first().is_none_or(|first| missing.cut.split == first.split && missing.tasks == tasks);
            let claim = match joins && next.len() < TOGETHER {
                true => self.claim(&missing.cut)?,
                false => Claimed::ByOther,
            };
            match claim {
                Claimed::Finished => {}
                Claimed::ByOther => left.push(missing),
                Claimed::Now(claim) => {
                    claims.push(claim);
                    tasks = missing.tasks;
                    next.push(missing.cut);
                }
            }
        }
        self.missing = left;
        if next.is_empty() {
            return if self.missing.is_empty() { Ok(()) } else { Store::wait(self.stage.cell(what)) };
        }
        let what = match next.len() - 1 {
            0 => what.to_owned(),
            1 => format!("{what}, and one more cut"),
            more => format!("{what}, and {more} more cuts"),
        };
        let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
        let candidates: Vec<Candidate<'_>> = next.iter().map(|cut| self.cells.candidate(&cut.kept)).collect();
        let split = self.cells.split(next[0].split);
        split.evaluate(self.cells.store, &candidates, &tasks, self.stage.cell(&what))?;
        self.evaluated.extend(next);
        Ok(())
    }

    /// Claims a cut for this process, unless it was finished meanwhile.
    fn claim(&self, cut: &CutOnSplit) -> Result<Claimed> {
        let (split, candidate) = (self.cells.split(cut.split), self.cells.candidate(&cut.kept));
        let claim = split.claim(self.cells.store, &candidate)?;
        if split.missing(self.cells.store, &candidate)?.is_empty() {
            return Ok(Claimed::Finished);
        }
        Ok(claim.map_or(Claimed::ByOther, Claimed::Now))
    }

    /// What it took; none where no cut was new.
    pub fn timing(self) -> Option<Timing> {
        Some(self.stage.timing()).filter(|timing| timing.cells > 0)
    }
}
