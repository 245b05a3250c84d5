//! Which layers a strategy removes: by a criterion over calibration text, by what single removals cost on the selection
//! items, by a search, or by a plan.

use std::collections::BTreeMap;
use std::path::Path;

use lopper_prune::LayerScores;
use lopper_prune::criteria::{self, Request};
use lopper_prune::plan::{PLAN_FILE, Plan};
use lopper_record::{Fault, LayerNumbering, LayerPosition, LayerSet, Result};

use crate::Recipe;
use crate::cuts::{AUTO, GivenCut, Kind};

/// What strategies choose by.
pub struct Evidence<'a> {
    /// Layers of the model.
    pub num_layers: usize,
    /// Criteria over calibration text.
    pub scores: &'a LayerScores,
    /// For each layer, the group mean retention without it, on the selection items.
    pub ablation: &'a [f64],
    /// Layers that `ablation` never removes.
    pub keep: &'a LayerSet<LayerPosition>,
    /// Seed of random choices.
    pub seed: u64,
    /// The strategies.
    pub strategies: &'a Strategies,
    /// What the searches found.
    pub searched: &'a BTreeMap<String, CutsByDepth>,
}

/// The layers to remove, by how many they are.
pub type CutsByDepth = BTreeMap<usize, LayerSet<LayerPosition>>;

/// The strategies of a study for one model, by name.
pub struct Strategies {
    all: Vec<(String, By)>,
}

enum By {
    /// A criterion, with what is added to the seed.
    Criterion(&'static criteria::Criterion, u64),
    Ablation,
    Search,
    Given(CutsByDepth),
}

impl Strategies {
    /// Reads the plans, and checks that every strategy gives a cut of the study.
    ///
    /// # Errors
    /// A [`Fault`] for a plan that cannot be read or is of another model, for one that gives none of the depths, and
    /// for a main strategy that does not give those that are healed.
    pub fn resolve(recipe: &Recipe, hash: &str, numbering: &LayerNumbering) -> Result<Self> {
        let mut all = Vec::new();
        for (name, kind) in recipe.cuts.named()? {
            let by = match kind {
                Kind::Criterion(criterion, seed) => By::Criterion(criterion, seed),
                Kind::Ablation => By::Ablation,
                Kind::Search(_) => By::Search,
                Kind::Given(given) => By::Given(cuts_of(given, hash, numbering)?),
            };
            all.push((name, by));
        }
        let strategies = Self { all };
        strategies.check(recipe)?;
        Ok(strategies)
    }

    fn check(&self, recipe: &Recipe) -> Result<(), Fault> {
        let (depths, healed) = (&recipe.cuts.depths, &recipe.heal.depths);
        for name in self.names() {
            if !depths.iter().any(|depth| self.gives(name, *depth)) {
                return Err(self.lacks(name, &format!("one of {depths:?} layers, as `cuts.depths` has them")));
            }
        }
        let main = &recipe.cuts.main;
        if main == AUTO {
            if self.candidates(recipe).is_empty() {
                let message = "no strategy gives the cuts that the main one needs";
                let middle = recipe.cuts.middle_depth();
                return Err(Fault::new(message)
                    .expected(format!("a strategy with a cut of {middle} layers and of each of `heal.depths`"))
                    .got(format!("{:?}", self.names().collect::<Vec<_>>()))
                    .hint("add a criterion or a search to `cuts.strategies`; they give every depth"));
            }
        } else if let Some(depth) = healed.iter().find(|depth| !self.gives(main, **depth)) {
            return Err(self.lacks(main, &format!("one of {depth} layers, which `heal.depths` heals")));
        }
        Ok(())
    }

    /// The fault of a given cut that has not the wanted depths.
    fn lacks(&self, name: &str, wanted: &str) -> Fault {
        let depths: Vec<usize> = match self.by(name) {
            Some(By::Given(cuts)) => cuts.keys().copied().collect(),
            _ => vec![],
        };
        Fault::new(format!("the strategy `{name}` has no such cut"))
            .expected(wanted.to_owned())
            .got(format!("cuts of {depths:?} layers"))
            .hint("a plan gives its own cut, and shallower or deeper ones only where it holds an order of removal")
    }

    fn by(&self, name: &str) -> Option<&By> {
        self.all.iter().find(|(own, _)| own == name).map(|(_, by)| by)
    }

    /// The names, in the order of the study file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a strategy removes so many layers: plans need not.
    pub fn gives(&self, name: &str, depth: usize) -> bool {
        match self.by(name) {
            Some(By::Given(cuts)) => cuts.contains_key(&depth),
            Some(By::Criterion(..) | By::Ablation | By::Search) => true,
            None => false,
        }
    }

    /// Those that can be the main one: with a cut at the depth in the middle, and at those that are healed.
    pub fn candidates(&self, recipe: &Recipe) -> Vec<&str> {
        let middle = recipe.cuts.middle_depth();
        let gives =
            |name: &&str| self.gives(name, middle) && recipe.heal.depths.iter().all(|depth| self.gives(name, *depth));
        self.names().filter(gives).collect()
    }

    /// Whether the criterion `name` is among them.
    pub fn use_criterion(&self, name: &str) -> bool {
        self.all.iter().any(|(_, by)| matches!(by, By::Criterion(criterion, _) if criterion.name == name))
    }

    /// A sentence for each strategy that is not measured at all depths.
    pub fn remarks(&self, depths: &[usize]) -> Vec<String> {
        let remark = |name: &str| {
            let (given, missing): (Vec<usize>, Vec<usize>) = depths.iter().partition(|depth| self.gives(name, **depth));
            let list = |depths: &[usize]| depths.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let (given, missing) = (list(&given), list(&missing));
            (!missing.is_empty())
                .then(|| format!("{name} is measured at depth {given} only: it gives no cut of {missing} layers"))
        };
        self.names().filter_map(remark).collect()
    }
}

/// The cuts of a plan or of a list of layers.
fn cuts_of(given: &GivenCut, hash: &str, numbering: &LayerNumbering) -> Result<CutsByDepth> {
    let num_layers = numbering.present().len();
    if let Some(drop) = &given.drop {
        let dropped = LayerSet::parse(drop, numbering.original_layers())
            .and_then(|layers| numbering.positions(&layers))
            .map_err(|error| error.context(format!("`drop = {drop:?}` of `cuts.strategies`")))?;
        criteria::check_removal(num_layers, dropped.len())?;
        return Ok(CutsByDepth::from([(dropped.len(), dropped)]));
    }
    let path = Path::new(given.plan.as_deref().unwrap_or_default());
    let file = if path.is_dir() { path.join(PLAN_FILE) } else { path.to_path_buf() };
    let plan = Plan::read(&file)?;
    let mut cuts = CutsByDepth::new();
    for dropped in plan.removals(hash, numbering).map_err(|error| in_file(error, &file))? {
        cuts.insert(dropped.len(), dropped);
    }
    Ok(cuts)
}

fn in_file(error: lopper_record::Error, file: &Path) -> lopper_record::Error {
    match error.into_fault() {
        Ok(fault) => fault.file(file).into(),
        Err(error) => error,
    }
}

/// The layers that `strategy` removes when `remove` are to go.
///
/// # Errors
/// A [`Fault`] where the strategy cannot remove so many.
pub fn choose(strategy: &str, remove: usize, evidence: &Evidence<'_>) -> Result<LayerSet<LayerPosition>> {
    let Evidence { num_layers, scores, strategies, .. } = *evidence;
    criteria::check_removal(num_layers, remove)?;
    let found = match strategies.by(strategy) {
        Some(By::Criterion(criterion, added)) => {
            let seed = evidence.seed.wrapping_add(*added);
            let request = Request { num_layers, remove, scores: Some(scores), seed };
            return Ok(criteria::select(criterion, &request)?.dropped);
        }
        Some(By::Ablation) => return cheapest(remove, evidence),
        Some(By::Search) => evidence.searched.get(strategy).and_then(|cuts| cuts.get(&remove)),
        Some(By::Given(cuts)) => cuts.get(&remove),
        None => None,
    };
    found.cloned().ok_or_else(|| strategies.lacks(strategy, &format!("one of {remove} layers")).into())
}

/// The layers whose single removal costs least.
fn cheapest(remove: usize, evidence: &Evidence<'_>) -> Result<LayerSet<LayerPosition>> {
    let mut order: Vec<usize> = evidence.keep.complement(evidence.num_layers).indices().collect();
    // What keeps most goes first; of equal layers the later one.
    order.sort_by(|&a, &b| evidence.ablation[b].total_cmp(&evidence.ablation[a]).then(b.cmp(&a)));
    lopper_record::ensure!(order.len() >= remove, "{remove} layers are to go but only {} may", order.len());
    Ok(order.into_iter().take(remove).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuts::{Cuts, StrategyEntry};
    use lopper_prune::criteria::BlockScores;

    fn strategies(cuts: Cuts) -> Result<Strategies> {
        let mut recipe = Recipe { cuts, ..Recipe::default() };
        recipe.heal.depths.clear();
        Strategies::resolve(&recipe, "hash", &LayerNumbering::uncut(4))
    }

    fn given(drop: &str) -> StrategyEntry {
        StrategyEntry::Given(GivenCut { drop: Some(drop.into()), ..GivenCut::default() })
    }

    #[test]
    fn every_strategy_removes_its_layers_and_spares_what_is_kept() {
        let scores = LayerScores {
            block_influence: vec![0.3, 0.1, 0.2, 0.4],
            angular: BlockScores::new(vec![vec![0.3, 0.1, 0.2, 0.4]]),
            angular_mean: BlockScores::new(vec![vec![0.3, 0.1, 0.2, 0.4]]),
            relative_magnitude: vec![0.0; 4],
            tokens: 1,
            sequences: 1,
            angular_mean_tokens: 1,
            perplexity: None,
            linear_r2: None,
            taylor: None,
        };
        let names = ["ablation", "bi", "reverse", "greedy", "random"].map(StrategyEntry::from);
        let listed = names.into_iter().chain([given("0,2")]).collect();
        let strategies =
            strategies(Cuts { strategies: listed, depths: vec![1, 2], random: 2, ..Cuts::default() }).unwrap();
        let searched = BTreeMap::from([("greedy".to_owned(), BTreeMap::from([(1, LayerSet::from([2]))]))]);
        let ablation = [1.0, 0.5, 0.9, 0.9];
        let first = LayerSet::from([0]);
        let evidence = Evidence {
            num_layers: 4,
            scores: &scores,
            ablation: &ablation,
            keep: &first,
            seed: 1,
            strategies: &strategies,
            searched: &searched,
        };
        let chosen = |strategy: &str, remove: usize| choose(strategy, remove, &evidence).unwrap();
        assert_eq!(chosen("ablation", 1), LayerSet::from([3]));
        assert_eq!(chosen("ablation", 2), LayerSet::from([2, 3]));
        assert_eq!(chosen("ablation", 3), LayerSet::from([1, 2, 3]));
        assert_eq!(chosen("bi", 2), LayerSet::from([1, 2]));
        assert_eq!(chosen("reverse", 2), LayerSet::from([2, 3]));
        assert_eq!((chosen("greedy", 1), chosen("given", 2)), (LayerSet::from([2]), LayerSet::from([0, 2])));
        // Another seed: the second random strategy is the first one's with the next.
        let next = Evidence { seed: 2, ..evidence };
        assert_eq!(chosen("random-2", 2), choose("random", 2, &next).unwrap());
        let evidence = Evidence { seed: 1, ..next };
        assert!(choose("ablation", 4, &evidence).is_err() && choose("none", 1, &evidence).is_err());
        let fault = choose("given", 1, &evidence).unwrap_err().into_fault().unwrap();
        assert!(fault.to_string().contains("[2]") && fault.hint.unwrap().contains("order of removal"));
        assert!(choose("greedy", 2, &evidence).is_err());
        let all_kept = Evidence { keep: &LayerSet::from([0, 1, 2]), ..evidence };
        assert!(choose("ablation", 2, &all_kept).is_err());
        assert_eq!(
            strategies.remarks(&[1, 2, 3]),
            ["given is measured at depth 2 only: it gives no cut of 1, 3 layers"]
        );
    }

    #[test]
    fn a_given_cut_must_be_of_use() {
        let of = |drop: &str, main: &str, depths: &[usize]| {
            let cuts = Cuts { strategies: vec![given(drop), "bi".into()], depths: depths.into(), ..Cuts::default() };
            strategies(Cuts { main: main.into(), ..cuts })
        };
        assert!(of("1-2", "auto", &[1, 2]).is_ok());
        let fault = |result: Result<Strategies>| match result {
            Ok(_) => panic!("nothing is refused"),
            Err(error) => error.into_fault().unwrap(),
        };
        assert!(fault(of("1-2", "auto", &[1])).to_string().contains("cuts.depths"));
        assert!(fault(of("1-9", "auto", &[1])).to_string().contains("drop"));
        // The main strategy is chosen among those that give the depth in the middle and all that are healed.
        let cuts = Cuts { strategies: vec![given("1-2"), "bi".into()], depths: vec![1, 2], ..Cuts::default() };
        let mut recipe = Recipe { cuts, ..Recipe::default() };
        recipe.heal.depths = vec![1];
        let resolve = |recipe: &Recipe| Strategies::resolve(recipe, "hash", &LayerNumbering::uncut(4));
        assert_eq!(resolve(&recipe).unwrap().candidates(&recipe), ["bi"]);
        recipe.cuts.main = "given".into();
        assert!(fault(resolve(&recipe)).to_string().contains("heal.depths"));
        recipe.cuts.strategies.pop();
        recipe.cuts.main = AUTO.into();
        assert!(fault(resolve(&recipe)).message.contains("no strategy"));
    }
}
