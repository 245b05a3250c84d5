//! The depth budget in words.

use super::{BudgetDepth, BudgetLine, ItemsNeeded, Scope, Verdict};

impl BudgetLine {
    /// The decision in plain words: how many of `num_layers` may go, what was measured, which task keeps least, what
    /// the next deeper cut lacks, and which depths were not tried. The first answer of a group also says what it rests
    /// on: how layers were chosen, how many items, and what the confidence is about.
    pub fn sentence(&self, num_layers: Option<usize>) -> String {
        let mut sentences = vec![self.decision(num_layers)];
        if !self.tasks.is_empty() {
            sentences.extend(self.least_kept());
            sentences.extend(self.next_depth());
            sentences.extend(self.not_tried());
        }
        if !self.left_out.is_empty() && self.scope != Scope::Task {
            let names = listed(self.left_out.iter().map(|name| plain(name)));
            sentences.push(format!("Left out, because the uncut model scores too little to judge by: {names}."));
        }
        if self.headline {
            sentences.extend(self.basis());
        }
        sentences.join(" ")
    }

    fn decision(&self, num_layers: Option<usize>) -> String {
        let of_layers = num_layers.map_or_else(|| "layers".to_owned(), |layers| format!("of {layers} layers"));
        if self.tasks.is_empty() {
            let what = match self.scope {
                Scope::Task => self.task_name(),
                Scope::Worst | Scope::Mean => format!("any {}task", self.group_before()),
            };
            return format!(
                "How many {of_layers} can go is not known for {what}: the uncut model scores too little to judge by."
            );
        }
        let goal = self.goal();
        let first = self.depths.first().map_or(0, |depth| depth.removed);
        match self.max_layers {
            Some(0) if first <= 1 => format!("Not one {of_layers} can go to keep {goal}."),
            Some(0) => format!("Fewer than {first} {of_layers} can go to keep {goal}."),
            Some(most) => format!("Cut at most {most} {of_layers} to keep {goal}."),
            None => format!("The items do not decide how many {of_layers} can go to keep {goal}."),
        }
    }

    /// What is to be kept: "≥ 90 % of each of the 3 generative tasks after healing".
    fn goal(&self) -> String {
        let (count, group) = (self.tasks.len(), self.group_before());
        let what = match (self.scope, count) {
            (Scope::Task, _) | (_, 1) => self.task_name(),
            (Scope::Worst, _) => format!("each of the {count} {group}tasks"),
            (Scope::Mean, _) => format!("the mean of the {count} {group}tasks"),
        };
        let chance = if self.above_chance { ", above chance," } else { "" };
        let healing = match (self.healed, self.healing_data.as_str()) {
            (false, _) => String::new(),
            (true, "") => " after healing".to_owned(),
            (true, data) => format!(" after healing on {data}"),
        };
        format!("≥ {:.0} % of {what}{chance}{healing}", self.threshold * 100.0).trim_end_matches(',').to_owned()
    }

    /// The group's name before a noun; nothing where the tasks are not of one group.
    fn group_before(&self) -> String {
        if self.group.is_empty() { String::new() } else { format!("{} ", plain(&self.group)) }
    }

    fn task_name(&self) -> String {
        self.task.as_deref().map_or_else(|| self.tasks.first().map_or_else(String::new, |task| plain(task)), plain)
    }

    /// What is kept at the depth of the budget.
    fn least_kept(&self) -> Option<String> {
        let at = self.depths.iter().find(|depth| Some(depth.removed) == self.max_layers)?;
        let kept = at.retention?;
        let (value, bound) = (percent(kept.value), percent(kept.lower95));
        Some(match (&at.worst, self.scope) {
            (Some(task), Scope::Worst) => format!("There {} keeps least: {value} % (at least {bound} %).", plain(task)),
            _ => format!("There {value} % is kept (at least {bound} %)."),
        })
    }

    /// Why the next deeper cut does not count.
    fn next_depth(&self) -> Option<String> {
        let next = self.depths.iter().find(|depth| depth.removed > self.max_layers.unwrap_or(0))?;
        let kept = next.retention?;
        let whose = next.worst.as_deref().filter(|_| self.scope == Scope::Worst).map(plain);
        let (value, removed) = (percent(kept.value), next.removed);
        Some(match next.verdict {
            Verdict::Holds => return None,
            Verdict::Fails => {
                let who = whose.map_or_else(|| "it keeps".to_owned(), |task| format!("{task} keeps"));
                format!("With {removed} removed {who} {value} % (at most {} %).", percent(kept.upper95))
            }
            Verdict::Undecided => {
                let who = whose.map_or_else(String::new, |task| format!(" of {task}"));
                let bounds = format!("{value} %{who} kept, {}–{} %", percent(kept.lower95), percent(kept.upper95));
                format!("Whether {removed} can go is undecided ({bounds}){}.", self.decided_by(next))
            }
        })
    }

    fn decided_by(&self, depth: &BudgetDepth) -> String {
        let Some(ItemsNeeded { items, measured, task }) = &depth.needed else {
            return "; no reasonable number of items would decide it".to_owned();
        };
        let of = match (task, self.scope) {
            (Some(task), Scope::Worst) => format!(" of {}", plain(task)),
            (None, Scope::Worst | Scope::Mean) => " of all tasks together".to_owned(),
            _ => String::new(),
        };
        format!("; about {} items{of} would decide it, {measured} were measured", rounded_up(*items))
    }

    /// Depths between the measured ones, and those beyond where nothing measured failed.
    fn not_tried(&self) -> Option<String> {
        let deepest = self.depths.last()?.removed;
        let missing: Vec<usize> =
            (1..deepest).filter(|removed| !self.depths.iter().any(|depth| depth.removed == *removed)).collect();
        let missing =
            if missing.is_empty() { String::new() } else { crate::format_ranges(&missing).replace(',', ", ") };
        let tried = if self.healed { "healed" } else { "tried" };
        match (missing.as_str(), self.max_layers == Some(deepest)) {
            ("", false) => None,
            ("", true) => Some(format!("No deeper cut was {tried}.")),
            (missing, false) => Some(format!("Not {tried}: {missing} removed.")),
            (missing, true) => Some(format!("Not {tried}: {missing} removed, and more than {deepest}.")),
        }
    }

    /// What the answer rests on.
    fn basis(&self) -> Option<String> {
        let items = Some(self.items()).filter(|items| *items > 0)?;
        let strategy = match self.strategy.as_str() {
            "" => String::new(),
            strategy => format!("layers chosen by {}, ", plain(strategy)),
        };
        let tasks = match self.tasks.len() {
            1 => String::new(),
            count => format!(" in {count} tasks"),
        };
        Some(format!(
            "Measured with {strategy}{items} items{tasks}; the 95 % confidence is about the sampling of items, not about \
             other seeds, prompts or uses."
        ))
    }
}

fn percent(share: f64) -> String {
    // 89.96 is not 90: a bound never looks better than it is by more than a tenth.
    let tenths = (share * 1000.0).round() / 10.0;
    if (tenths - tenths.round()).abs() < 0.05 { format!("{tenths:.0}") } else { format!("{tenths:.1}") }
}

/// Two digits, rounded up: the number is an estimate.
fn rounded_up(items: usize) -> usize {
    let unit = 10usize.pow((items.max(1).ilog10()).saturating_sub(1));
    items.div_ceil(unit) * unit
}

/// A name for a reader.
fn plain(name: &str) -> String {
    name.replace('_', " ")
}

fn listed(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Retention;
    use crate::study::{CLASSIFICATION, GENERATIVE};

    fn depth(removed: usize, lower95: f64, upper95: f64) -> BudgetDepth {
        let retention =
            Retention { value: f64::midpoint(lower95, upper95), ci95: [lower95, upper95], lower95, upper95, n: 240 };
        let verdict = Verdict::of(&retention, 0.9);
        BudgetDepth {
            removed,
            retention: Some(retention),
            worst: Some("word_problems".into()),
            holds: verdict == Verdict::Holds,
            verdict,
            ..BudgetDepth::default()
        }
    }

    fn worst(max_layers: Option<usize>, depths: Vec<BudgetDepth>) -> BudgetLine {
        BudgetLine {
            scope: Scope::Worst,
            headline: true,
            group: GENERATIVE.into(),
            tasks: vec!["word_problems".into(), "arithmetic".into()],
            threshold: 0.9,
            strategy: "ablation".into(),
            max_layers,
            depths,
            ..BudgetLine::default()
        }
    }

    #[test]
    fn the_first_answer_names_the_worst_task_and_what_it_rests_on() {
        let mut line = worst(Some(3), vec![depth(1, 0.95, 1.0), depth(3, 0.91, 0.97), depth(5, 0.4, 0.6)]);
        line.left_out = vec!["code".into()];
        assert_eq!(
            line.sentence(Some(12)),
            "Cut at most 3 of 12 layers to keep ≥ 90 % of each of the 2 generative tasks. There word problems keeps \
             least: 94 % (at least 91 %). With 5 removed word problems keeps 50 % (at most 60 %). Not tried: 2, 4 \
             removed. Left out, because the uncut model scores too little to judge by: code. Measured with layers \
             chosen by ablation, 240 items in 2 tasks; the 95 % confidence is about the sampling of items, not about \
             other seeds, prompts or uses."
        );
    }

    #[test]
    fn what_is_not_decided_is_not_called_a_failure() {
        let mut line = worst(None, vec![depth(1, 0.85, 0.97)]);
        line.headline = false;
        line.depths[0].needed = Some(ItemsNeeded { items: 412, measured: 120, task: Some("word_problems".into()) });
        assert_eq!(
            line.sentence(Some(12)),
            "The items do not decide how many of 12 layers can go to keep ≥ 90 % of each of the 2 generative tasks. \
             Whether 1 can go is undecided (91 % of word problems kept, 85–97 %); about 420 items of word problems would \
             decide it, 120 were measured."
        );
        line.depths[0].needed = None;
        assert!(line.sentence(None).contains("how many layers can go"));
        assert!(line.sentence(None).ends_with("; no reasonable number of items would decide it."));
        line.max_layers = Some(0);
        line.depths = vec![depth(1, 0.5, 0.7)];
        assert!(line.sentence(Some(12)).starts_with("Not one of 12 layers can go to keep"));
        line.depths = vec![depth(4, 0.5, 0.7)];
        let said = line.sentence(Some(12));
        assert!(said.starts_with("Fewer than 4 of 12 layers can go") && said.ends_with("Not tried: 1-3 removed."));
    }

    #[test]
    fn one_task_and_a_mean_say_what_is_kept_and_on_what() {
        let mut line = worst(Some(1), vec![depth(1, 0.935, 1.0)]);
        (line.scope, line.headline, line.group) = (Scope::Mean, false, CLASSIFICATION.into());
        (line.above_chance, line.healed) = (true, true);
        line.healing_data = "2000 of its own answers".into();
        assert_eq!(
            line.sentence(Some(12)),
            "Cut at most 1 of 12 layers to keep ≥ 90 % of the mean of the 2 classification tasks, above chance, after \
             healing on 2000 of its own answers. There 96.8 % is kept (at least 93.5 %). No deeper cut was healed."
        );
        line.scope = Scope::Task;
        line.task = Some("arc_easy".into());
        (line.healed, line.tasks) = (false, vec!["arc_easy".into()]);
        assert!(line.sentence(Some(12)).contains("to keep ≥ 90 % of arc easy, above chance. There"));
        (line.tasks, line.left_out) = (vec![], vec!["arc_easy".into()]);
        assert_eq!(
            line.sentence(Some(12)),
            "How many of 12 layers can go is not known for arc easy: the uncut model scores too little to judge by."
        );
    }
}
