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
use lopper_record::{Claimed, LayerPosition, LayerSet, NoProgress, Progress, Result, Step, Store};

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
    /// Cells that were passed by.
    counted: usize,
}

impl<'a> Stage<'a> {
    /// Announces a stage of `cells`, of which `found` are there.
    pub fn begin(progress: &'a dyn Progress, name: &str, cells: usize, found: usize) -> Self {
        let step = match cells {
            0 => Box::new(NoProgress),
            _ => progress.step(Step::new(name, "cells", cells).found(found)),
        };
        Self {
            step,
            timing: Timing { stage: name.to_owned(), cells, ..Timing::default() },
            finished: found,
            counted: 0,
        }
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
        self.counted += 1;
        if by_earlier_run {
            self.timing.cached += 1;
            return Ok(());
        }
        self.finished = self.timing.cells.min(self.finished + 1);
        self.step.set(self.finished);
        self.step.check()
    }

    /// Ends it at the cells that were counted.
    pub fn end(&mut self) {
        self.timing.cells = self.counted;
        self.step.set_total(self.counted);
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
    /// The tasks on the items of one split.
    pub fn split(&self, split: Split) -> &'a EvalSplit {
        if split == Split::Select { self.select } else { self.report }
    }

    pub fn candidate<'b>(&'b self, kept: &'b LayerSet<LayerPosition>) -> Candidate<'b> {
        let StudyModel { card, text, .. } = self.model;
        Candidate { text, model: &card.hash, kept, run: kept.slots(), healed: None }
    }
}

/// The cuts that no earlier stage has used (`used`, which takes them in), in order, each with the tasks that it has no
/// cell for.
pub fn new_cuts(
    cells: CutCells<'_>,
    used: &mut HashSet<CutOnSplit>,
    cuts: &[CutOnSplit],
) -> Result<Vec<(CutOnSplit, Vec<String>)>> {
    let mut new = Vec::new();
    for cut in cuts {
        if used.insert(cut.clone()) {
            let missing = cells.split(cut.split).missing(cells.store, &cells.candidate(&cut.kept))?;
            new.push((cut.clone(), missing.into_iter().map(str::to_owned).collect()));
        }
    }
    Ok(new)
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
    /// Cuts evaluated at once.
    together: usize,
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
        for (cut, tasks) in new_cuts(cells, used, cuts)? {
            new.insert(cut.clone());
            if !tasks.is_empty() {
                missing.push(Missing { cut, tasks });
            }
        }
        let stage = Stage::begin(progress, name, new.len(), new.len() - missing.len());
        Ok(Self { cells, stage, new, missing, evaluated: HashSet::new(), together: TOGETHER })
    }

    /// The same, where each cut decides whether the next is needed.
    pub fn one_by_one(self) -> Self {
        Self { together: 1, ..self }
    }

    /// Ends it at the cuts that were used.
    pub fn end(&mut self) {
        self.stage.end();
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
        // From the cut that is needed on, and then those before it.
        self.missing.rotate_left(at);
        let mut missing = std::mem::take(&mut self.missing);
        let mut first: Option<(Split, Vec<String>)> = None;
        let (next, _claims) = Store::claim_some(&mut missing, self.together, self.stage.cell(what), |other| {
            if first.as_ref().is_some_and(|(split, tasks)| other.cut.split != *split || other.tasks != *tasks) {
                return Ok(Claimed::ByOther);
            }
            let claimed = self.claim(&other.cut)?;
            if matches!(claimed, Claimed::Now(_)) {
                first.get_or_insert_with(|| (other.cut.split, other.tasks.clone()));
            }
            Ok(claimed)
        })?;
        self.missing = missing;
        let Some((_, tasks)) = first else { return Ok(()) };
        let next: Vec<CutOnSplit> = next.into_iter().map(|missing| missing.cut).collect();
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
