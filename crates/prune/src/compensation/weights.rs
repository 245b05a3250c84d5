//! Changing weights of a model by their names.

use lopper_model::checkpoint::round_to;
use lopper_model::param::Param;
use lopper_model::{Checkpoint, Model};
use lopper_record::{Context, Fault, Result};

/// How changed weights will be stored: as this checkpoint stores them, or in `f32`.
pub(super) struct StoredAs<'a>(pub Option<&'a Checkpoint>);

/// Replaces the weights of one layer for which `change` gives new values. Names are those within the layer, such as
/// `mlp.down_proj.weight`. Adapters of the layer are merged first.
pub(super) fn change_layer(
    model: &mut Model,
    layer: usize,
    stored: &StoredAs<'_>,
    change: impl Fn(&str, &Param) -> Option<Vec<f32>>,
) -> Result<()> {
    for (_, linear) in model.layers[layer].linears_mut() {
        linear.merge();
    }
    let prefix = format!("model.layers.{layer}.");
    let mut result = Ok(());
    model.visit_mut(|name, param| {
        let Some(values) = name.strip_prefix(&prefix).and_then(|within| change(within, param)) else { return };
        match stored.round(name, values) {
            Ok(values) => *param = Param { slot: param.slot, ..Param::matrix(values, param.rows, param.cols) },
            Err(error) => result = Err(error),
        }
    });
    result
}

impl StoredAs<'_> {
    fn round(&self, name: &str, mut values: Vec<f32>) -> Result<Vec<f32>> {
        if let Some(checkpoint) = self.0 {
            let dtype = checkpoint.tensor_info(name).context("a weight to change")?.dtype;
            round_to(&mut values, dtype)?;
        }
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(values),
            false => Err(Fault::new(format!("`{name}` would not be finite after the compensation"))
                .expected("weights that its dtype can hold")
                .got("infinity or not-a-number")
                .hint("prune without --compensate, or with the other method")
                .into()),
        }
    }
}

/// The names of the parameters that are not those of before.
pub(super) fn changed(before: &[(String, Param)], after: &[(String, Param)]) -> Vec<String> {
    let same =
        |name: &str, param: &Param| before.iter().any(|(other, old)| other == name && old.shares_values_with(param));
    after.iter().filter(|(name, param)| !same(name, param)).map(|(name, _)| name.clone()).collect()
}
