//! Presets: studies to begin with. A preset is a study file that comes with Lopper and whose values stand in for what a
//! file of one's own leaves out; depths follow the number of the model's layers.

use lopper_record::Fault;
use lopper_record::study::ModelCard;

/// The deepest cut of a preset removes this part of the layers.
const DEEPEST: usize = 4;
/// Layers of a model that is not known yet, as while a file is only read.
const USUAL_LAYERS: usize = 32;

/// A study to begin with.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// As users write it.
    pub name: &'static str,
    /// One line for listings.
    pub description: &'static str,
    /// The models that are studied where none is named.
    pub models: &'static [&'static str],
    file: &'static str,
    depths: Depths,
}

#[derive(Debug, Clone, Copy)]
enum Depths {
    /// Every one up to the deepest, perhaps healed at each quarter of the way.
    Every { healed: bool },
    /// A few.
    Few,
}

/// Every preset.
pub const PRESETS: [Preset; 3] = [
    Preset {
        name: "quick",
        description: "minutes on a small model: few items, three tasks, no search, nothing healed",
        models: &["Qwen/Qwen2.5-0.5B-Instruct"],
        file: include_str!("presets/quick.toml"),
        depths: Depths::Few,
    },
    Preset {
        name: "paper",
        description: "the grid of arXiv 2602.01997: its tasks, sampling, strategies, depths and healing",
        models: &["Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3"],
        file: include_str!("presets/paper.toml"),
        depths: Depths::Every { healed: true },
    },
    Preset {
        name: "classification",
        description: "classification tasks only, cut by the criteria that read hidden states",
        models: &["Qwen/Qwen2.5-7B-Instruct"],
        file: include_str!("presets/classification.toml"),
        depths: Depths::Every { healed: false },
    },
];

/// The cuts that the paper publishes, by family, layers and width of the model: how it chose the layers, and which.
const PUBLISHED: [(&str, usize, usize, &str, &str); 3] = [
    ("qwen2", 28, 3584, "published-iterative", "4,5,11,12,17,20,24"),
    ("llama", 32, 4096, "published-cosine", "22-29"),
    ("mistral", 32, 4096, "published-bi", "21-28"),
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// A [`Fault`] that lists the names there are.
    pub fn named(name: &str) -> Result<&'static Self, Fault> {
        static ALL: [Preset; PRESETS.len()] = PRESETS;
        ALL.iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names: Vec<String> = ALL.iter().map(|preset| format!("`{}`", preset.name)).collect();
            Fault::new("there is no such preset")
                .expected(format!("one of {}", names.join(", ")))
                .got(format!("`{name}`"))
                .hint("`lopper study --preset NAME --print-recipe` prints a preset with every key")
        })
    }

    /// The preset as a study file for a model; one of the usual number of layers where `card` is none.
    pub(crate) fn table(&self, card: Option<&ModelCard>) -> anyhow::Result<toml::Table> {
        let mut table: toml::Table = toml::from_str(self.file)?;
        let layers = card.map_or(USUAL_LAYERS, |card| card.num_layers);
        let (depths, healed) = self.depths(layers);
        let list = |depths: Vec<usize>| toml::Value::try_from(depths);
        insert(&mut table, "cuts", "depths", list(depths)?);
        insert(&mut table, "heal", "depths", list(healed)?);
        let of_model = |(family, layers, width, ..): &&(&str, usize, usize, &str, &str)| {
            card.is_some_and(|card| (&*card.family, card.num_layers, card.hidden_size) == (*family, *layers, *width))
        };
        let published = PUBLISHED.iter().find(of_model).filter(|_| self.name == "paper");
        let cuts = table.get_mut("cuts").and_then(toml::Value::as_table_mut);
        let strategies = cuts.and_then(|cuts| cuts.get_mut("strategies")).and_then(toml::Value::as_array_mut);
        if let (Some((.., name, drop)), Some(strategies)) = (published, strategies) {
            let given = [("drop", *drop), ("name", *name)].map(|(key, text)| (key.to_owned(), text.into()));
            strategies.push(toml::Value::Table(given.into_iter().collect()));
        }
        Ok(table)
    }

    /// The depths to cut at, and those of them to heal, for a model of so many layers.
    fn depths(&self, layers: usize) -> (Vec<usize>, Vec<usize>) {
        let deepest = (layers / DEEPEST).max(1);
        match self.depths {
            Depths::Few => {
                let mut depths = vec![1, 2, deepest.div_ceil(2), deepest];
                depths.retain(|depth| *depth <= deepest);
                depths.sort_unstable();
                depths.dedup();
                (depths, vec![])
            }
            Depths::Every { healed: false } => ((1..=deepest).collect(), vec![]),
            Depths::Every { healed: true } => {
                // Quarters of the way, to the nearest depth.
                let mut healed: Vec<usize> = (1..=4).map(|part| (part * deepest + 2) / 4).collect();
                healed.retain(|depth| *depth > 0);
                healed.dedup();
                ((1..=deepest).collect(), healed)
            }
        }
    }
}

/// Puts `value` into a table of the file, which is made where it is not there.
fn insert(file: &mut toml::Table, table: &str, key: &str, value: toml::Value) {
    let entry = file.entry(table).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let Some(table) = entry.as_table_mut() {
        table.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_follow_the_layers() {
        let of = |name: &str, layers: usize| Preset::named(name).unwrap().depths(layers);
        assert_eq!(of("paper", 28), ((1..=7).collect(), vec![2, 4, 5, 7]));
        assert_eq!(of("paper", 32), ((1..=8).collect(), vec![2, 4, 6, 8]));
        assert_eq!(of("paper", 5), (vec![1], vec![1]));
        assert_eq!(of("quick", 24), (vec![1, 2, 3, 6], vec![]));
        assert_eq!((of("quick", 4).0, of("quick", 8).0), (vec![1], vec![1, 2]));
        assert_eq!(of("classification", 16), ((1..=4).collect(), vec![]));
        assert!(Preset::named("slow").unwrap_err().expected.unwrap().contains("`quick`, `paper`, `classification`"));
    }

    #[test]
    fn the_papers_cuts_belong_to_its_models() {
        let strategies = |family: &str, num_layers: usize, hidden_size: usize| {
            let card = ModelCard { family: family.into(), num_layers, hidden_size, ..ModelCard::default() };
            Preset::named("paper").unwrap().table(Some(&card)).unwrap()["cuts"]["strategies"].to_string()
        };
        assert!(strategies("qwen2", 28, 3584).contains("4,5,11,12,17,20,24"));
        assert!(strategies("llama", 32, 4096).contains("22-29") && strategies("mistral", 32, 4096).contains("21-28"));
        // A model of the same depth and another width is another model.
        assert!(!strategies("llama", 32, 3072).contains("published"));
    }
}
