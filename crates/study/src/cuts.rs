//! `[cuts]` of a study file: the ways of choosing layers, the depths, and the tasks that choose.

use std::path::Path;

use lopper_prune::criteria::{CRITERIA, Criterion, criterion};
use lopper_prune::plan::PLAN_FILE;
use lopper_record::{Fault, LayerSet};
use serde::{Deserialize, Serialize};

use crate::tasks::StudyTasks;

/// The strategy that removes the layers whose single removal costs least.
pub const ABLATION: &str = "ablation";
/// The criterion of which there may be several, each with a seed of its own.
const RANDOM: &str = "random";
/// `cuts.main` for the strategy that keeps most on the selection items.
pub const AUTO: &str = "auto";
/// `cuts.objective` for every task.
const ALL: &str = "all";
/// Most random strategies; each is measured at every depth.
const MOST_RANDOM: usize = 100;

/// Cuts to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cuts {
    /// Ways of choosing layers.
    pub strategies: Vec<StrategyEntry>,
    /// Numbers of layers to remove.
    pub depths: Vec<usize>,
    /// The strategy that is healed and that the budget is about; `auto` takes the one that keeps
    /// most on the selection items at the depth in the middle.
    pub main: String,
    /// Layers that `ablation` and searches never remove (the paper keeps layer 0).
    pub keep: LayerSet,
    /// The tasks that layers and strategies are chosen by.
    pub objective: Objective,
    /// How many random strategies `random` means, each with a seed of its own.
    pub random: usize,
}

impl Default for Cuts {
    fn default() -> Self {
        Self {
            strategies: [ABLATION, "bi", "angular", "reverse", RANDOM].map(StrategyEntry::from).to_vec(),
            depths: (1..=9).collect(),
            main: AUTO.into(),
            keep: LayerSet::from([0]),
            objective: Objective::default(),
            random: 1,
        }
    }
}

/// An entry of `cuts.strategies`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a strategy is a name, such as \"greedy\", or a table such as { plan = \"cut.json\" } or { drop = \"21-28\" }"
)]
pub enum StrategyEntry {
    /// A criterion of `lopper prune`, [`ABLATION`], or a search.
    Named(String),
    /// Layers that are given.
    Given(GivenCut),
}

impl From<&str> for StrategyEntry {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

/// A cut that was chosen before: by a plan, or by the layers themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GivenCut {
    /// A `cut.json` as `lopper search` and `lopper prune` write it, or a directory that holds one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Layers to drop, as for `--drop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<String>,
    /// The name to show; without it, that of the plan's file, or of its directory where the file is `cut.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl GivenCut {
    /// The name that the strategy is shown by.
    pub fn shown_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.trim().to_owned();
        }
        let Some(plan) = &self.plan else { return "given".to_owned() };
        let path = Path::new(plan);
        let named = if path.ends_with(PLAN_FILE) { path.parent() } else { None };
        let named = named.filter(|parent| parent.file_name().is_some()).unwrap_or(path);
        let stem = named.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        stem.filter(|stem| !stem.is_empty()).unwrap_or_else(|| "plan".to_owned())
    }
}

/// A search over candidates that are evaluated on tasks, as [`lopper_prune::search`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchMethod {
    /// Round by round the removal that costs least: the paper's iterative search.
    Greedy,
    /// The same on growing samples of items.
    Racing,
    /// The contiguous block that costs least, for each depth.
    Block,
    /// Mutation and selection of whole sets, for each depth.
    Evolution,
}

impl SearchMethod {
    /// Every search.
    pub const ALL: [Self; 4] = [Self::Greedy, Self::Racing, Self::Block, Self::Evolution];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Racing => "racing",
            Self::Block => "block",
            Self::Evolution => "evolution",
        }
    }
}

/// What an entry of `cuts.strategies` means.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// A criterion, with what is added to the study's seed.
    Criterion(&'static Criterion, u64),
    /// What single removals cost.
    Ablation,
    /// A search.
    Search(SearchMethod),
    /// Layers that are given.
    Given(&'a GivenCut),
}

impl Cuts {
    /// The strategies with their names: each random one by itself.
    ///
    /// # Errors
    /// A [`Fault`] for a name that is none, and for one that is shown twice.
    pub fn named(&self) -> Result<Vec<(String, Kind<'_>)>, Fault> {
        let mut named: Vec<(String, Kind<'_>)> = Vec::new();
        for entry in &self.strategies {
            let kinds = match entry {
                StrategyEntry::Given(given) => vec![(given.shown_name(), Kind::Given(given))],
                StrategyEntry::Named(name) if name == ABLATION => vec![(name.clone(), Kind::Ablation)],
                StrategyEntry::Named(name) if name == RANDOM => {
                    let of = |at: usize| if at == 0 { name.clone() } else { format!("{RANDOM}-{}", at + 1) };
                    let random = criterion(name).map_err(|error| unknown(name, error))?;
                    (0..self.random.max(1)).map(|at| (of(at), Kind::Criterion(random, at as u64))).collect()
                }
                StrategyEntry::Named(name) => {
                    let kind = match SearchMethod::ALL.into_iter().find(|method| method.name() == name) {
                        Some(method) => Kind::Search(method),
                        None => Kind::Criterion(criterion(name).map_err(|error| unknown(name, error))?, 0),
                    };
                    vec![(name.clone(), kind)]
                }
            };
            for (name, kind) in kinds {
                if named.iter().any(|(other, _)| *other == name) {
                    return Err(Fault::new(format!("`cuts.strategies` names `{name}` twice"))
                        .expected("each name once")
                        .got(format!("{name:?}"))
                        .hint("leave one out, or give a plan or a list of layers a `name` of its own"));
                }
                named.push((name, kind));
            }
        }
        Ok(named)
    }

    /// The depth that the main strategy is chosen at.
    pub fn middle_depth(&self) -> usize {
        self.depths.get(self.depths.len() / 2).copied().unwrap_or(0)
    }

    /// Refuses values that make no sense whatever the model.
    pub(crate) fn check(&self, heal_depths: &[usize]) -> Result<(), Fault> {
        let refuse = |message: String, expected: &str, got: String| Fault::new(message).expected(expected).got(got);
        let Self { strategies, depths, main, random, .. } = self;
        for (key, list) in [("cuts.depths", depths.as_slice()), ("heal.depths", heal_depths)] {
            if list.contains(&0) || !list.is_sorted_by(|a, b| a < b) {
                let message = format!("`{key}` is not a list of depths");
                return Err(refuse(message, "ascending numbers of layers, each at least 1", format!("{list:?}"))
                    .hint("such as [1, 2, 4]"));
            }
        }
        if strategies.is_empty() || depths.is_empty() {
            return Err(refuse(
                "the study cuts nothing".into(),
                "at least one strategy and one depth",
                format!("{} strategies, and the depths {depths:?}", strategies.len()),
            )
            .hint("leave a key out to take its default"));
        }
        if let Some(depth) = heal_depths.iter().find(|depth| !depths.contains(depth)) {
            let message = "`heal.depths` names a depth that is not cut".into();
            return Err(refuse(message, &format!("depths from {depths:?}"), depth.to_string())
                .hint("add it to `cuts.depths`: what healing brings back is measured against the cut"));
        }
        for given in strategies.iter().filter_map(|entry| match entry {
            StrategyEntry::Given(given) => Some(given),
            StrategyEntry::Named(_) => None,
        }) {
            let (name, got) = (given.shown_name(), format!("{given:?}"));
            if given.plan.is_some() == given.drop.is_some() {
                let message = "a table in `cuts.strategies` gives no cut, or two".into();
                return Err(refuse(message, "`plan`, the path of a cut.json, or `drop`, a list of layers", got)
                    .hint("such as { plan = \"found/cut.json\" } or { drop = \"21-28\", name = \"published\" }"));
            }
            if name.is_empty() || name == AUTO || name.chars().any(char::is_control) || name.chars().count() > 60 {
                return Err(refuse("a strategy cannot have this name".into(), "a short text that is not `auto`", got)
                    .hint("`name` is what tables and charts show"));
            }
        }
        let has_random = strategies.contains(&RANDOM.into());
        if *random == 0 || *random > MOST_RANDOM || (*random > 1 && !has_random) {
            let expected = format!("from 1 to {MOST_RANDOM}, with `random` among `cuts.strategies`");
            return Err(refuse("`cuts.random` is out of range".into(), &expected, random.to_string())
                .hint("3 measures three random cuts of each depth: `random`, `random-2` and `random-3`"));
        }
        let names: Vec<String> = self.named()?.into_iter().map(|(name, _)| name).collect();
        if main != AUTO && !names.contains(main) {
            let message = "`cuts.main` is not one of the strategies".into();
            return Err(refuse(message, &format!("`{AUTO}` or one of {names:?}"), format!("{main:?}"))
                .hint("`auto` takes the one that keeps most on the selection items"));
        }
        Ok(())
    }
}

fn unknown(name: &str, error: lopper_record::Error) -> Fault {
    let criteria = CRITERIA.iter().map(|criterion| criterion.name);
    let searches = SearchMethod::ALL.into_iter().map(SearchMethod::name);
    let names: Vec<String> =
        std::iter::once(ABLATION).chain(searches).chain(criteria).map(|name| format!("`{name}`")).collect();
    match error.into_fault() {
        Ok(_) => Fault::new(format!("unknown strategy `{name}`"))
            .expected(format!("one of {}, or a table", names.join(", ")))
            .got(format!("`{name}`"))
            .hint("a plan is { plan = \"cut.json\" }, a list of layers { drop = \"21-28\" }"),
        Err(error) => Fault::new(error.to_string()),
    }
}

/// The tasks that layers and strategies are chosen by: `all`, a group, or a list of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "\"all\", \"generative\", \"classification\", or a list of tasks")]
pub enum Objective {
    /// `all`, a group, or one task.
    One(String),
    /// Several of these.
    Several(Vec<String>),
}

impl Default for Objective {
    fn default() -> Self {
        Self::One(ALL.into())
    }
}

impl Objective {
    fn words(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Several(words) => words,
        }
    }

    /// The words as they were written.
    pub fn summary(&self) -> String {
        self.words().join(", ")
    }

    /// The names of the tasks that choose, in the order of the study's.
    ///
    /// # Errors
    /// A [`Fault`] for a word that names none of the study's tasks, and for none at all.
    pub fn tasks(&self, tasks: &StudyTasks) -> Result<Vec<String>, Fault> {
        let mut chosen: Vec<String> = Vec::new();
        for word in self.words() {
            let of_word = if word == ALL { tasks.names() } else { tasks.named(word) };
            if of_word.is_empty() {
                return Err(no_task(&format!("`cuts.objective` names `{word}`, which is no task of the study"), tasks));
            }
            chosen.extend(of_word);
        }
        if chosen.is_empty() {
            return Err(no_task("`cuts.objective` is empty", tasks));
        }
        Ok(tasks.names().into_iter().filter(|name| chosen.contains(name)).collect())
    }
}

fn no_task(message: &str, tasks: &StudyTasks) -> Fault {
    Fault::new(message)
        .expected(format!("`{ALL}`, a group that has tasks, or tasks among {}", tasks.names().join(", ")))
        .got("no task")
        .hint("`generative` chooses layers by generation only, as the paper does")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_named_by_their_file_or_directory() {
        let named = |plan: &str, name: Option<&str>| {
            GivenCut { plan: Some(plan.into()), drop: None, name: name.map(str::to_owned) }.shown_name()
        };
        assert_eq!(named("plans/deep.json", None), "deep");
        assert_eq!(named("found/cut.json", None), "found");
        assert_eq!(named("found", None), "found");
        assert_eq!(named("cut.json", None), "cut");
        assert_eq!(named("found/cut.json", Some(" mine ")), "mine");
        assert_eq!(GivenCut { drop: Some("1-2".into()), ..GivenCut::default() }.shown_name(), "given");
    }

    #[test]
    fn several_random_cuts_are_strategies_of_their_own() {
        let cuts = Cuts { random: 3, ..Cuts::default() };
        cuts.check(&[]).unwrap();
        let names: Vec<String> = cuts.named().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[4..], ["random", "random-2", "random-3"]);
        for (random, strategies) in [(0, vec!["random".into()]), (101, vec!["random".into()]), (2, vec!["bi".into()])] {
            let fault = Cuts { random, strategies, ..Cuts::default() }.check(&[]).unwrap_err();
            assert!(fault.message.contains("cuts.random"), "{fault}");
        }
        let taken = GivenCut { drop: Some("3".into()), name: Some("random-2".into()), ..GivenCut::default() };
        let strategies = vec!["random".into(), StrategyEntry::Given(taken)];
        assert!(Cuts { random: 2, strategies, ..Cuts::default() }.check(&[]).unwrap_err().message.contains("twice"));
    }
}
