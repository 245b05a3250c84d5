//! What is saved when layers go, and how much faster the rest is at best.

use lopper_model::Config;
use serde::Serialize;

/// What is left, and what is saved, when `removed` layers go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Savings {
    /// How many layers go.
    pub removed: usize,
    /// Parameters that are left.
    pub parameters: u64,
    /// The fraction of all parameters that goes.
    pub saved_share: f64,
    /// Bytes of the checkpoint that is left.
    pub checkpoint_bytes: u64,
    /// Keys and values of one token, in f32.
    pub kv_bytes_per_token: u64,
    /// Keys and values of a text that fills the context, in f32: least and most, since layers with
    /// a window keep less than others.
    pub kv_bytes_at_context: [u64; 2],
    /// Work per token before the cut ÷ after it, head included, for short texts. What decoding reads
    /// and what products compute shrink by this ratio.
    pub speed_up: f64,
    /// The same for texts so long that attention is all the work.
    pub speed_up_long_text: f64,
}

/// What is saved for each number of layers that may go; the checkpoint has `checkpoint_bytes`, `layer_bytes` of them in
/// each layer.
pub fn savings(config: &Config, checkpoint_bytes: u64, layer_bytes: u64) -> Vec<Savings> {
    let (layers, parameters) = (config.num_hidden_layers, config.parameter_counts());
    let mut caches = config.kv_bytes_at_context();
    caches.sort_unstable();
    // Each token passes the layers, the last norm and the head; of the embedding it reads one row.
    let head = config.vocab_size as u64 * config.hidden_size as u64;
    let outside = (head + parameters.final_norm + config.hidden_size as u64) as f64;
    let work = |left: usize| outside + left as f64 * parameters.per_layer.total as f64;
    let cut = |removed: usize| {
        let saved = parameters.per_layer.total * removed as u64;
        let left = layers - removed;
        Savings {
            removed,
            parameters: parameters.total - saved,
            saved_share: saved as f64 / parameters.total as f64,
            checkpoint_bytes: checkpoint_bytes.saturating_sub(layer_bytes * removed as u64),
            kv_bytes_per_token: config.kv_bytes_per_layer() * left as u64,
            kv_bytes_at_context: [caches[..left].iter().sum(), caches[removed..].iter().sum()],
            speed_up: work(layers) / work(left),
            speed_up_long_text: layers as f64 / left as f64,
        }
    };
    (1..layers).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_as_fast_as_its_work() {
        let config = Config { vocab_size: 100, ..Config::plain(4, 2, 8) };
        let (parameters, cuts) = (config.parameter_counts(), savings(&config, 0, 0));
        let (layer, outside) = (parameters.per_layer.total as f64, 100.0 * 16.0 + 32.0);
        assert!((cuts[0].speed_up - (outside + 4.0 * layer) / (outside + 3.0 * layer)).abs() < 1e-12);
        assert!((cuts[2].speed_up_long_text - 4.0).abs() < 1e-12);
        assert!(cuts.iter().all(|cut| cut.speed_up > 1.0 && cut.speed_up < cut.speed_up_long_text));
    }
}
