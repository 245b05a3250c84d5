//! The one way from tasks and candidates to a number.
//!
//! - [`evaluate`]: the outcomes of every candidate (a set of layers to run) on a suite of tasks, and their cost. It
//!   alone calls the engine for tasks; [`run_requests`] does the same for probes that are not tasks. Loop stops, drafts
//!   and batches are applied there.
//! - [`retention`]: scores of a cut divided by the uncut model's, by task and by group, with intervals;
//!   [`compare_all`]: the same with paired tests; [`compare_removals`]: which of many removals differ from none.
//! - [`group_budgets`]: how many layers may go, for each task, the worst of a group, and the group's mean;
//!   [`samples_budget`]: the same from files that an evaluation wrote ([`SampleScores`]);
//! - [`pooled`]: tasks that are scored together, such as the subjects of MMLU, as one.
//! - [`group_mean_retention`], [`Objective`]: the one figure that layers and cuts are chosen by.
//! - [`perplexity`], [`nll_rise`]: of texts, with intervals.
//!
//! Not here: which candidates to evaluate (`lopper-prune`, `lopper-study`), and what broke in them (`lopper-diagnose`).
//!
//! ```
//! use lopper_infer::{Engine, TextModel};
//! use lopper_measure::{Execution, evaluate, group_mean_retention};
//! use lopper_model::{Checkpoint, Model};
//! use lopper_record::{LayerSet, NoProgress};
//! use lopper_tasks::{GenerationPolicy, ItemSelection, Resources, Split, Suite};
//!
//! # fn main() -> lopper_record::Result<()> {
//! let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?;
//! let text = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 1)?, &checkpoint)?;
//! let items = ItemSelection::new(Split::Report, 5, 0);
//! let suite =
//!     Suite::prepare(&text, &["pocket_topic"], &items, &GenerationPolicy::default(), &Resources::default())?;
//!
//! // The whole model, and the model without layers 5 and 6.
//! let uncut = text.engine.all_layers();
//! let cut = uncut.without(&LayerSet::from([5, 6]));
//! let scored = evaluate(&text, &suite, &[uncut, cut], &Execution::default(), &NoProgress)?;
//! let outcome = &scored.outcomes[1][0]; // of the cut, on the first task
//! println!("acc {:.2} of {} items", outcome.metrics["acc"].value, outcome.n);
//! let kept = group_mean_retention(scored.outcomes[0].iter().zip(&scored.outcomes[1]));
//! assert!(kept.is_some());
//! # Ok(())
//! # }
//! ```

mod budget;
mod compare;
mod objective;
mod perplexity;
mod pool;
mod removal;
mod retention;
mod run;
mod samples;
mod samples_budget;

pub use budget::{MeasuredCut, group_budgets};
pub use compare::{Comparison, Comparisons, DIFFERENCE, GroupComparison, Power, compare, compare_all};
pub use objective::{ItemScores, Objective, group_mean_retention};
pub use perplexity::{nll_rise, perplexity};
pub use pool::{pooled, pooled_order};
pub use removal::{LEVEL, RemovalEffect, RemovalTest, compare_removals};
pub use retention::{Outcomes, TaskItems, group_scores, paired, retention, uncut_results};
pub use run::{Cost, Drafts, Evaluation, Execution, evaluate, run_requests};
pub use samples::{SampleScores, ScoreChoice, ScoredItem, ScoredTask};
pub use samples_budget::{SampledCut, SamplesBudget, samples_budget};
