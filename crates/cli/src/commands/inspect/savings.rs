//! What is saved when layers go, and how much faster the rest is at best.

use lopper_model::Config;
use serde::Serialize;

use super::{Bytes, Parameters};
use crate::table;

/// What is left, and what is saved, when `removed` layers go.
#[derive(Serialize)]
pub struct Cut {
    removed: usize,
    parameters: u64,
    saved_share: f64,
    checkpoint_bytes: u64,
    kv_bytes_per_token: u64,
    /// Keys and values of a text that fills the context, in f32: least and most, since layers with
    /// a window keep less than others.
    kv_bytes_at_context: [u64; 2],
    /// Work per token before the cut ÷ after it, head included, for short texts. What decoding reads
    /// and what products compute shrink by this ratio.
    speed_up: f64,
    /// The same for texts so long that attention is all the work.
    speed_up_long_text: f64,
}

/// Bytes of one token's keys and values in one layer, in f32.
pub fn kv_per_layer(config: &Config) -> u64 {
    2 * 4 * config.key_value_size() as u64
}

/// Bytes of each layer's keys and values when the context is full: a window keeps what it reaches.
fn kv_of_layers(config: &Config) -> Vec<u64> {
    let context = config.max_position_embeddings;
    let tokens = config.layers.iter().map(|layer| layer.window.map_or(context, |window| window.min(context)));
    tokens.map(|tokens| kv_per_layer(config).saturating_mul(tokens as u64)).collect()
}

/// Their sum.
pub fn kv_at_context(config: &Config) -> u64 {
    kv_of_layers(config).iter().sum()
}

/// One row for each number of layers that may go.
pub fn cuts(config: &Config, parameters: &Parameters, bytes: &Bytes) -> Vec<Cut> {
    let layers = config.num_hidden_layers;
    let mut caches = kv_of_layers(config);
    caches.sort_unstable();
    // Each token passes the layers, the last norm and the head; of the embedding it reads one row.
    let head = config.vocab_size as u64 * config.hidden_size as u64;
    let outside = (head + parameters.final_norm + config.hidden_size as u64) as f64;
    let work = |left: usize| outside + left as f64 * parameters.per_layer.total as f64;
    let cut = |removed: usize| {
        let saved = parameters.per_layer.total * removed as u64;
        let left = layers - removed;
        Cut {
            removed,
            parameters: parameters.total - saved,
            saved_share: saved as f64 / parameters.total as f64,
            checkpoint_bytes: bytes.checkpoint.saturating_sub(bytes.per_layer * removed as u64),
            kv_bytes_per_token: kv_per_layer(config) * left as u64,
            kv_bytes_at_context: [caches[..left].iter().sum(), caches[removed..].iter().sum()],
            speed_up: work(layers) / work(left),
            speed_up_long_text: layers as f64 / left as f64,
        }
    };
    (1..layers).map(cut).collect()
}

/// The cuts as a table. The column of a full context stands there only where windows make it say
/// more than the one before it.
pub fn human(cuts: &[Cut]) -> String {
    let windows = cuts.iter().any(|cut| cut.kv_bytes_at_context[0] != cut.kv_bytes_at_context[1]);
    let common = |cut: &Cut| {
        let speed = format!("{:.2}–{:.2}", cut.speed_up, cut.speed_up_long_text);
        let saved = format!("{:.1} %", 100.0 * cut.saved_share);
        let kv = table::bytes(cut.kv_bytes_per_token);
        [cut.removed.to_string(), table::count(cut.parameters), saved, table::bytes(cut.checkpoint_bytes), kv, speed]
    };
    let header = ["layers removed", "parameters", "saved", "on disk", "KV per token", "speed-up, at most"];
    if !windows {
        return table::render(header, &cuts.iter().map(common).collect::<Vec<_>>()) + SPEED;
    }
    let rows: Vec<[String; 7]> = cuts
        .iter()
        .map(|cut| {
            let [a, b, c, d, e, f] = common(cut);
            let [least, most] = cut.kv_bytes_at_context.map(table::bytes);
            [a, b, c, d, e, if least == most { least } else { format!("{least}–{most}") }, f]
        })
        .collect();
    let [a, b, c, d, e, f] = header;
    table::render([a, b, c, d, e, "KV, full context", f], &rows) + SPEED
}

/// What the last column is.
const SPEED: &str = "\n\nSpeed-up: the work for one token before the cut, divided by the work after it; for short texts, and for\n\
    texts so long that attention is nearly all the work. A measured speed-up is smaller, because some work does\n\
    not shrink with the number of layers.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_bound_the_cache() {
        let mut config = Config { max_position_embeddings: 1000, ..Config::plain(3, 2, 8) };
        // 2 heads of 8, keys and values, 4 bytes.
        assert_eq!(kv_at_context(&config), 3 * 1000 * 128);
        config.layers[0].window = Some(10);
        config.layers[1].window = Some(5000);
        assert_eq!(kv_at_context(&config), (10 + 1000 + 1000) * 128);
    }

    #[test]
    fn a_cut_is_as_fast_as_its_work() {
        let config = Config { vocab_size: 100, ..Config::plain(4, 2, 8) };
        let parameters = super::super::parameters(&config);
        let bytes = Bytes { checkpoint: 0, per_layer: 0, loaded: 0, kv_per_token: 0, kv_at_context: 0 };
        let cuts = cuts(&config, &parameters, &bytes);
        let (layer, outside) = (parameters.per_layer.total as f64, 100.0 * 16.0 + 32.0);
        assert!((cuts[0].speed_up - (outside + 4.0 * layer) / (outside + 3.0 * layer)).abs() < 1e-12);
        assert!((cuts[2].speed_up_long_text - 4.0).abs() < 1e-12);
        assert!(cuts.iter().all(|cut| cut.speed_up > 1.0 && cut.speed_up < cut.speed_up_long_text));
    }
}
