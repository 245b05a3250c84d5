//! The order in which a plan removes its layers: with it, a plan gives shallower cuts as well as its own.

use lopper_record::{Fault, LayerNumbering, LayerPosition, LayerSet, OriginalLayer, Result};

use super::Plan;

impl Plan {
    /// The removals that this plan gives for a model with this hash and numbering, the shallowest first: its own, those
    /// that lead to it where it records an order ([`Choice::order`](super::Choice::order)), and those of every depth
    /// where it holds a score of each layer by which it was chosen.
    ///
    /// # Errors
    /// A [`Fault`] where the plan was made for another model, or removes nothing from this one.
    pub fn removals(&self, hash: &str, numbering: &LayerNumbering) -> Result<Vec<LayerSet<LayerPosition>>> {
        if self.source.hash != hash {
            return Err(Fault::new("the plan was made for another model")
                .expected(format!("`{}`, hash {}", self.source.id, self.source.hash))
                .got(format!("hash {hash}"))
                .hint("to cut this model at the same layers, name them: { drop = \"…\" } in a study, --drop elsewhere")
                .into());
        }
        let present = numbering.present();
        let own = numbering.positions(&present.without(&self.kept))?;
        if own.is_empty() {
            return Err(Fault::new("the plan removes no layer of this model")
                .expected("a plan that drops layers")
                .got(format!("kept {}", self.kept))
                .into());
        }
        let order = match (&self.choice.order, self.ranking(present.len(), &own)) {
            (Some(order), _) => order
                .iter()
                .map(|layer| Ok(numbering.positions(&LayerSet::from_iter([*layer]))?.indices().collect::<Vec<_>>()))
                .collect::<Result<Vec<_>>>()?
                .concat(),
            (None, Some(ranking)) => ranking,
            (None, None) => return Ok(vec![own]),
        };
        Ok((1..=order.len()).map(|depth| order[..depth].iter().copied().collect()).collect())
    }

    /// Every layer but the last to go, by the scores that chose `own`: the smallest first, of equal ones the later.
    /// None where the plan has no such scores, or they are of blocks.
    fn ranking(&self, layers: usize, own: &LayerSet<LayerPosition>) -> Option<Vec<usize>> {
        let scores = self.choice.scores.as_ref().filter(|scores| scores.len() == layers)?;
        let mut order: Vec<usize> = (0..layers).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
        let chosen: LayerSet<LayerPosition> = order.iter().take(own.len()).copied().collect();
        order.pop();
        (chosen == *own).then_some(order)
    }

    /// What is wrong with the recorded order, if anything.
    pub(super) fn order_fault(&self) -> Option<String> {
        let order = self.choice.order.as_ref()?;
        let set: LayerSet<OriginalLayer> = order.iter().copied().collect();
        let once = set.len() == order.len();
        let all = if once { self.dropped.without(&set) } else { LayerSet::default() };
        let earlier = self.dropped.len().saturating_sub(self.source.num_hidden_layers.saturating_sub(self.kept.len()));
        // Layers that the source lacked already are not in the order.
        (!once || !set.without(&self.dropped).is_empty() || all.len() != earlier).then(|| format!("{order:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Choice;
    use crate::plan::tests::plan as of_model;

    fn plan(drop: &[usize], choice: Choice) -> Plan {
        Plan { choice, ..of_model(12, drop.iter().copied().collect::<LayerSet>()) }
    }

    fn removals(plan: &Plan) -> Vec<Vec<usize>> {
        let found = plan.removals(&plan.source.hash, &LayerNumbering::uncut(12)).unwrap();
        found.iter().map(|removal| removal.indices().collect()).collect()
    }

    #[test]
    fn an_order_gives_every_cut_on_the_way_and_scores_give_every_depth() {
        let given = plan(&[3, 5, 9], Choice::given());
        assert_eq!(removals(&given), [vec![3, 5, 9]]);
        let order = Some([9, 3, 5].map(OriginalLayer).to_vec());
        let searched = plan(&[3, 5, 9], Choice { order, ..Choice::given() });
        assert_eq!(removals(&searched), [vec![9], vec![3, 9], vec![3, 5, 9]]);
        // It is written and read back.
        let back = Plan::parse(searched.to_json().unwrap().as_bytes(), "cut.json".as_ref()).unwrap();
        assert_eq!(back, searched);

        let mut scores = vec![1.0; 12];
        (scores[4], scores[7], scores[2]) = (0.1, 0.2, 0.3);
        let ranked = plan(&[4, 7], Choice { scores: Some(scores.clone()), ..Choice::given() });
        let found = removals(&ranked);
        assert_eq!((found.len(), &found[0], &found[2]), (11, &vec![4], &vec![2, 4, 7]));
        // Scores that did not choose the layers give no order, nor do those of blocks.
        assert_eq!(removals(&plan(&[4, 8], Choice { scores: Some(scores.clone()), ..Choice::given() })).len(), 1);
        scores.pop();
        assert_eq!(removals(&plan(&[4, 7], Choice { scores: Some(scores), ..Choice::given() })).len(), 1);
    }

    #[test]
    fn plans_of_other_models_and_wrong_orders_are_refused() {
        let given = plan(&[3], Choice::given());
        let fault = given.removals("other", &LayerNumbering::uncut(12)).unwrap_err().into_fault().unwrap();
        assert!(fault.message.contains("another model") && fault.hint.is_some());
        for order in [vec![3, 3], vec![3], vec![3, 4], vec![3, 5, 6]] {
            let order = Some(order.into_iter().map(OriginalLayer).collect());
            let mut wrong = plan(&[3, 5], Choice::given());
            wrong.choice.order = order;
            let fault = Plan::parse(wrong.to_json().unwrap().as_bytes(), "cut.json".as_ref()).unwrap_err();
            assert!(fault.to_string().contains("order"), "{fault}");
        }
    }
}
