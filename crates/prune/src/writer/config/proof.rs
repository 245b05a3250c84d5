//! The edited configuration, read back, is the source's with only the kept layers: in every field.

use lopper_model::Config;
use lopper_record::{Result, bail};
use serde_json::Value;

/// Fails, naming the first field in which the two differ. A failure is Lopper's own: a rule that is
/// missing from this directory.
pub(super) fn same(written: &Config, meant: &Config) -> Result<()> {
    if written == meant {
        return Ok(());
    }
    let (written, meant) = (serde_json::to_value(written)?, serde_json::to_value(meant)?);
    let empty = Default::default();
    let (written, meant) = (written.as_object().unwrap_or(&empty), meant.as_object().unwrap_or(&empty));
    let differing = meant.iter().find(|(key, value)| written.get(*key) != Some(value));
    let Some((field, value)) = differing else { bail!("config.json of the cut would mean another model") };
    let read = written.get(field).unwrap_or(&Value::Null);
    let (at, value, read) = match (value.as_array(), read.as_array()) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or_default();
            (format!(" at {at}"), a.get(at).unwrap_or(&Value::Null), b.get(at).unwrap_or(&Value::Null))
        }
        _ => (String::new(), value, read),
    };
    bail!(
        "config.json of the cut would mean another model than the one that was measured: `{field}`{at} would be {read}, \
         not {value}. Nothing was written"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_model::config::LayerKind;

    #[test]
    fn the_differing_field_is_named() {
        let meant = Config::plain(3, 2, 8);
        same(&meant, &meant).unwrap();
        let mut written = meant.clone();
        written.layers[1] = LayerKind { window: Some(4), rope: Some(0) };
        let text = same(&written, &meant).unwrap_err().to_string();
        assert!(text.contains("`layers` at 1") && text.contains("\"window\":4"), "{text}");
        let wider = Config { head_dim: 10, ..meant.clone() };
        assert!(same(&wider, &meant).unwrap_err().to_string().contains("`head_dim` would be 10, not 8"));
    }
}
