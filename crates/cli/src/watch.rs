//! Shows how a study gets on: a bar per stage where someone looks, a line per stage where not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lopper_record::{Interrupted, Progress, Step};

use crate::printer::Printer;

/// Watches a study for the user.
pub struct Watch {
    printer: Printer,
    interrupted: Arc<AtomicBool>,
    bars: MultiProgress,
    state: Mutex<State>,
}

struct State {
    stage: Option<(String, ProgressBar, Instant)>,
    cell: Option<ProgressBar>,
}

impl Watch {
    pub fn new(printer: Printer, interrupted: Arc<AtomicBool>) -> Self {
        let target = if printer.shows_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { printer, interrupted, bars, state: Mutex::new(State { stage: None, cell: None }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn end_stage(&self, state: &mut State) {
        if let Some(cell) = state.cell.take() {
            cell.finish_and_clear();
        }
        if let Some((name, bar, began)) = state.stage.take() {
            bar.finish_and_clear();
            let seconds = began.elapsed().as_secs_f64();
            let (done, cells) = (bar.position(), bar.length().unwrap_or(0));
            let noun = if cells == 1 { "cell" } else { "cells" };
            // Stopped in the middle, by the user or by an error.
            let share = if done < cells { format!("{done} of {cells}") } else { cells.to_string() };
            self.say(&format!("{name}: {share} {noun}, {seconds:.1} s"));
        }
    }

    fn say(&self, text: &str) {
        self.bars.suspend(|| self.printer.note(text));
    }
}

impl Watch {
    fn stage(&self, name: &str, cells: usize, cached: usize) {
        let mut state = self.state();
        self.end_stage(&mut state);
        if cached > 0 {
            self.say(&format!("{name}: {cached} of {cells} finished by an earlier run"));
        }
        let bar = self.bars.add(ProgressBar::new(cells as u64));
        bar.set_style(style("{prefix} [{bar:30}] {pos}/{len}  {elapsed} elapsed, {eta} left"));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        state.stage = Some((name.to_owned(), bar, Instant::now()));
    }

    fn cell(&self, what: &str) {
        let mut state = self.state();
        if let Some(before) = state.cell.take() {
            before.finish_and_clear();
        }
        let bar = self.bars.add(ProgressBar::new(0));
        bar.set_style(style("  {msg} [{bar:24}] {human_pos}/{human_len} ({per_sec}, {eta} left)"));
        bar.set_message(what.to_owned());
        state.cell = Some(bar);
    }

    fn work(&self, done: usize, total: usize) {
        if let Some(cell) = &self.state().cell {
            cell.set_length(total as u64);
            cell.set_position(done as u64);
        }
    }

    fn cells_done(&self, done: usize) {
        if let Some((_, bar, _)) = &self.state().stage {
            bar.set_position(done as u64);
        }
    }
}

impl Progress for Watch {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        self.stage(step.name, step.total, step.found);
        self.cells_done(step.found);
        Box::new(Stage(self))
    }
}

struct Stage<'a>(&'a Watch);

impl Progress for Stage<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(Work(self.0, Mutex::new(step.total)))
    }

    fn set(&self, done: usize) {
        self.0.cells_done(done);
    }

    fn message(&self, text: &str) {
        self.0.cell(text);
    }

    fn check(&self) -> Result<()> {
        if self.0.interrupted.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }
}

struct Work<'a>(&'a Watch, Mutex<usize>);

impl Progress for Work<'_> {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(Work(self.0, Mutex::new(step.total)))
    }

    fn set(&self, done: usize) {
        self.0.work(done, *self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    fn set_total(&self, total: usize) {
        *self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = total;
    }

    fn check(&self) -> Result<()> {
        Stage(self.0).check()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.state();
        self.end_stage(&mut state);
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}
