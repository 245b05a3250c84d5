//! Lists of decoder layers as users write them: `21-28`, `3,8,19`, 0-based and in the original
//! numbering, whatever else has been removed already.
//!
//! A list is checked against the number of layers before any range is expanded, so that a typing
//! slip such as `1-99999999999` is a message and not an allocation.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::Fault;

/// A sorted set of layer indices in the original numbering.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<usize>", into = "Vec<usize>")]
pub struct LayerSet(Vec<usize>);

impl LayerSet {
    /// Parses a list of layers to drop and checks it against the model; see [`parse_layers`].
    pub fn parse(spec: &str, num_layers: usize) -> Result<Self> {
        parse_layers(spec, num_layers).map(Self)
    }

    /// The layers in ascending order.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// How many layers the set holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set holds no layer.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `layer` is in the set.
    pub fn contains(&self, layer: usize) -> bool {
        self.0.binary_search(&layer).is_ok()
    }

    /// The layers of a model with `num_layers` that are not in the set.
    pub fn kept(&self, num_layers: usize) -> Vec<usize> {
        kept(num_layers, &self.0)
    }
}

impl From<Vec<usize>> for LayerSet {
    fn from(mut layers: Vec<usize>) -> Self {
        layers.sort_unstable();
        layers.dedup();
        Self(layers)
    }
}

impl From<LayerSet> for Vec<usize> {
    fn from(set: LayerSet) -> Self {
        set.0
    }
}

impl fmt::Display for LayerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_layers(&self.0))
    }
}

/// Parses a list of layers to drop, such as `21-28` or `3, 8, 19-21`, for a model of `num_layers`.
///
/// Returns the indices in ascending order.
///
/// # Errors
/// A [`Fault`] when the list is empty or malformed, names a layer twice or one that the model does
/// not have, holds a range written backwards, or would drop every layer.
pub fn parse_layers(spec: &str, num_layers: usize) -> Result<Vec<usize>> {
    let fault = |message: String| {
        Fault::new(message)
            .expected("layers such as `3,8,19` or `5-7`")
            .got(format!("`{}`", shorten(spec)))
            .hint(range_hint(num_layers))
    };
    if spec.trim().is_empty() {
        return Err(fault("the list of layers is empty".into()).into());
    }
    let mut layers = Vec::new();
    for part in spec.split(',') {
        let part = part.trim();
        if part.is_empty() {
            return Err(fault("the list of layers has an empty entry".into()).into());
        }
        let number = |text: &str| -> Result<usize, Fault> {
            let text = text.trim();
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(fault(format!("`{}` is not a layer or a range of layers", shorten(part))));
            }
            match text.parse::<usize>() {
                Ok(layer) if layer < num_layers => Ok(layer),
                _ => Err(fault(format!("the model has no layer {}", shorten(text)))),
            }
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => {
                let layer = number(part)?;
                (layer, layer)
            }
        };
        if first > last {
            return Err(fault(format!("the range `{part}` runs backwards"))
                .hint(format!("write `{last}-{first}`; {}", range_hint(num_layers)))
                .into());
        }
        layers.extend(first..=last);
        // A model has at most `num_layers` distinct layers, so a longer list repeats one.
        if layers.len() > num_layers {
            break;
        }
    }
    layers.sort_unstable();
    check_dropped(&layers, num_layers)?;
    Ok(layers)
}

/// Checks a list of layers to drop that comes from elsewhere than the command line (a plan, a
/// record): every layer exists, none is named twice, at least one is left.
///
/// An empty list is allowed: it drops nothing.
pub fn check_dropped(dropped: &[usize], num_layers: usize) -> Result<()> {
    let mut sorted = dropped.to_vec();
    sorted.sort_unstable();
    if let Some(&layer) = sorted.last()
        && layer >= num_layers
    {
        return Err(Fault::new(format!("the model has no layer {layer}"))
            .expected(format!("layers below {num_layers}"))
            .got(layer.to_string())
            .hint(range_hint(num_layers))
            .into());
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Fault::new(format!("layer {} is named twice", pair[0]))
            .expected("each layer at most once")
            .got(format!("`{}`", shorten(&dropped.iter().map(usize::to_string).collect::<Vec<_>>().join(","))))
            .hint(range_hint(num_layers))
            .into());
    }
    if !sorted.is_empty() && sorted.len() == num_layers {
        return Err(Fault::new("every layer would be dropped")
            .expected(format!("at most {} of the {num_layers} layers", num_layers - 1))
            .got(format!("`{}`", format_layers(&sorted)))
            .hint("leave at least one layer")
            .into());
    }
    Ok(())
}

/// The layers that stay when `dropped` go from a model of `num_layers`, in ascending order.
pub fn kept(num_layers: usize, dropped: &[usize]) -> Vec<usize> {
    (0..num_layers).filter(|layer| !dropped.contains(layer)).collect()
}

/// Writes layers the way users write them: runs of three and more as ranges, `3,8,19-21`.
pub fn format_layers(layers: &[usize]) -> String {
    let mut sorted = layers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [first, _, .., last] => format!("{first}-{last}"),
            _ => run.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn range_hint(num_layers: usize) -> String {
    match num_layers {
        0 => "the model has no layers".into(),
        1 => "the model has one layer, 0, which has to stay".into(),
        n => format!("the model has {n} layers, numbered 0-{}", n - 1),
    }
}

/// Keeps a message short when the text it quotes is not.
fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault_of(spec: &str, num_layers: usize) -> Fault {
        parse_layers(spec, num_layers).unwrap_err().downcast_ref::<Fault>().expect("the user's fault").clone()
    }

    #[test]
    fn reads_the_documented_spellings() {
        assert_eq!(parse_layers("21-28", 32).unwrap(), (21..=28).collect::<Vec<_>>());
        assert_eq!(parse_layers("3,8,19", 32).unwrap(), [3, 8, 19]);
        assert_eq!(parse_layers(" 19 , 3, 5 - 6 ", 32).unwrap(), [3, 5, 6, 19]);
        assert_eq!(parse_layers("0", 2).unwrap(), [0]);
        assert_eq!(parse_layers("4-4", 5).unwrap(), [4]);
    }

    #[test]
    fn refuses_bad_lists_and_names_the_valid_range() {
        for (spec, message) in [
            ("", "empty"),
            ("3,,4", "empty entry"),
            ("3,", "empty entry"),
            ("x", "not a layer"),
            ("-3", "not a layer"),
            ("3-", "not a layer"),
            ("+3", "not a layer"),
            ("1-2-3", "not a layer"),
            ("12", "no layer 12"),
            ("5-12", "no layer 12"),
            ("1-99999999999999999999999", "no layer 9999"),
            ("8-5", "backwards"),
            ("3,3", "layer 3 is named twice"),
            ("2-5,4", "layer 4 is named twice"),
            ("0-11,0-11,0-11", "named twice"),
        ] {
            let fault = fault_of(spec, 12);
            assert!(fault.message.contains(message), "{spec}: {fault}");
            assert!(fault.hint.as_deref().unwrap().contains("0-11"), "{spec}: {fault}");
        }
        assert!(fault_of("0-11", 12).message.contains("every layer"));
        assert!(fault_of("0", 1).message.contains("every layer"));
        assert!(fault_of("0", 0).message.contains("no layer"));
        assert!(fault_of("8-5", 12).hint.unwrap().contains("`5-8`"));
    }

    #[test]
    fn a_list_from_a_file_may_be_empty() {
        check_dropped(&[], 12).unwrap();
        check_dropped(&[5, 3], 12).unwrap();
        assert!(check_dropped(&[12], 12).is_err());
        assert!(check_dropped(&[3, 3], 12).is_err());
    }

    #[test]
    fn writes_runs_as_ranges() {
        assert_eq!(format_layers(&[3, 8, 19, 20, 21]), "3,8,19-21");
        assert_eq!(format_layers(&[6, 5]), "5,6");
        assert_eq!(format_layers(&[]), "");
    }

    #[test]
    fn kept_is_the_complement() {
        assert_eq!(kept(5, &[3, 1]), [0, 2, 4]);
        let set = LayerSet::parse("1,3", 5).unwrap();
        assert_eq!(set.kept(5), [0, 2, 4]);
        assert!(set.contains(3) && !set.contains(2));
    }

    proptest! {
        #[test]
        fn formatting_and_parsing_are_inverse(layers in proptest::collection::btree_set(0usize..40, 1..39)) {
            let layers: Vec<usize> = layers.into_iter().collect();
            prop_assert_eq!(parse_layers(&format_layers(&layers), 40).unwrap(), layers);
        }

        #[test]
        fn any_text_is_parsed_or_refused(spec in "[0-9, xé-]{0,40}") {
            if let Err(error) = parse_layers(&spec, 12) {
                prop_assert!(error.downcast_ref::<Fault>().is_some());
            }
        }
    }
}
