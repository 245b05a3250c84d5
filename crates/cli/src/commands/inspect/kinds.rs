//! The kinds of layers that a model has: windows and positions.

use lopper_model::Config;
use lopper_model::config::{LayerKind, RopeScaling};
use lopper_record::LayerSet;
use serde::Serialize;

/// Layers of one kind.
#[derive(Serialize)]
pub struct LayerGroup {
    /// By their original numbers.
    layers: LayerSet,
    /// Tokens that a token sees, itself included; absent where it sees all.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<usize>,
    /// The rotary embedding's base; absent in layers without positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_theta: Option<f64>,
    /// How its wavelengths are stretched; absent where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_scaling: Option<&'static str>,
}

/// The groups of layers of a kind, in the order of their first layers, which `numbers` gives.
pub fn groups(config: &Config, numbers: &LayerSet) -> Vec<LayerGroup> {
    let mut groups: Vec<(LayerKind, LayerGroup)> = Vec::new();
    for (kind, number) in config.layers.iter().zip(numbers.iter()) {
        match groups.iter_mut().find(|(other, _)| other == kind) {
            Some((_, group)) => group.layers = group.layers.iter().chain([number]).collect(),
            None => {
                let rope = kind.rope.and_then(|rope| config.ropes.get(rope));
                let group = LayerGroup {
                    layers: [number].into_iter().collect(),
                    window: kind.window,
                    rope_theta: rope.map(|rope| rope.theta),
                    rope_scaling: rope.and_then(|rope| scaling(&rope.scaling)),
                };
                groups.push((*kind, group));
            }
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn scaling(scaling: &RopeScaling) -> Option<&'static str> {
    match scaling {
        RopeScaling::Default => None,
        RopeScaling::Linear { .. } => Some("linear"),
        RopeScaling::Dynamic { .. } => Some("dynamic"),
        RopeScaling::Llama3 { .. } => Some("llama3"),
        RopeScaling::Yarn { .. } => Some("yarn"),
        RopeScaling::LongRope { .. } => Some("longrope"),
    }
}

impl LayerGroup {
    /// The kind in words.
    pub fn describe(&self) -> String {
        let attention = match self.window {
            Some(window) => format!("a window of {window} tokens"),
            None => "full attention".to_owned(),
        };
        let positions = match (self.rope_theta, self.rope_scaling) {
            (None, _) => "no positions (NoPE)".to_owned(),
            (Some(theta), None) => format!("rotary base {theta}"),
            (Some(theta), Some(scaling)) => format!("rotary base {theta}, {scaling}"),
        };
        format!("{attention}, {positions}")
    }

    /// The kind in words, and which layers are of it.
    pub fn describe_with_layers(&self) -> String {
        format!("{}: {} ({})", self.describe(), self.layers, self.layers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_model::config::Rope;

    #[test]
    fn kinds_are_told_with_their_layers() {
        let mut config = Config::plain(6, 2, 8);
        assert_eq!(groups(&config, &LayerSet::all(6))[0].describe(), "full attention, rotary base 10000");
        config.ropes.push(Rope { theta: 1e6, rotary_dim: 8, scaling: RopeScaling::Linear { factor: 8.0 } });
        for layer in [0, 1, 3, 4] {
            config.layers[layer].window = Some(512);
        }
        config.layers[2].rope = Some(1);
        config.layers[5] = LayerKind { window: None, rope: None };
        let told: Vec<String> =
            groups(&config, &LayerSet::from([0, 1, 2, 7, 8, 9])).iter().map(LayerGroup::describe_with_layers).collect();
        assert_eq!(
            told,
            [
                "a window of 512 tokens, rotary base 10000: 0,1,7,8 (4)",
                "full attention, rotary base 1000000, linear: 2 (1)",
                "full attention, no positions (NoPE): 9 (1)",
            ]
        );
    }
}
